#include "segcore/image/png_chunks.hpp"

#include "segcore/image/inflated_stream.hpp"

namespace seg::detail {
namespace {

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

}  // namespace

bool PngChunk::is_whole() const { return crc32(checked) == checksum; }

std::optional<PngChunk> PngChunks::next() {
  constexpr size_t kAround = 12;  // of the data: length, type and checksum
  if (at_ + kAround > file_.size()) return std::nullopt;
  const uint8_t* chunk = file_.data() + at_;
  const size_t length = big_endian(chunk);
  if (length > file_.size() - at_ - kAround) return std::nullopt;
  at_ += kAround + length;
  return PngChunk{.type = {reinterpret_cast<const char*>(chunk + 4), 4},
                  .data = {chunk + 8, length},
                  .checked = {chunk + 4, length + 4},
                  .checksum = big_endian(chunk + 8 + length)};
}

}  // namespace seg::detail
