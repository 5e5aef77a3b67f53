#include "segcore/image/inflated_stream.hpp"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include <utility>

#include "segcore/cpu_vector.hpp"

namespace seg::detail {

namespace {

constexpr size_t kHeaderBytes = 2;

/// Whether the stream begins with a header of DEFLATE without a dictionary (RFC 1950, 2.2).
bool has_plain_header(std::span<const uint8_t> part) {
  constexpr int kDeflate = 8, kMostWindow = 7, kDictionary = 0x20;
  if (part.size() < kHeaderBytes) return false;
  const int method = part[0], flags = part[1];
  return method % 16 == kDeflate && method / 16 <= kMostWindow && (flags & kDictionary) == 0 &&
         (method * 256 + flags) % 31 == 0;
}

}  // namespace

struct InflatedStream::State {
  inflate_state isal;
};

InflatedStream::InflatedStream(std::vector<std::span<const uint8_t>> parts, bool with_checksum)
    : parts_(std::move(parts)), state_(std::make_unique_for_overwrite<State>()) {
  isal_inflate_init(&state_->isal);
  if (!with_checksum && !parts_.empty() && has_plain_header(parts_.front())) {
    parts_.front() = parts_.front().subspan(kHeaderBytes);
    state_->isal.crc_flag = ISAL_DEFLATE;
  } else {
    state_->isal.crc_flag = ISAL_ZLIB;
  }
}

InflatedStream::~InflatedStream() = default;

size_t InflatedStream::inflate(std::span<uint8_t> out) {
  inflate_state& isal = state_->isal;
  isal.next_out = out.data();
  isal.avail_out = static_cast<uint32_t>(out.size());
  while (isal.block_state != ISAL_BLOCK_FINISH) {
    if (isal.avail_in == 0 && next_part_ < parts_.size()) {
      const auto& part = parts_[next_part_++];
      isal.next_in = const_cast<uint8_t*>(part.data());  // is only read
      isal.avail_in = static_cast<uint32_t>(part.size());
    }
    const int result = isal_inflate(&isal);
    clear_upper_halves();
    if (result != ISAL_DECOMP_OK && result != ISAL_END_INPUT) damaged_ = true;
    if (damaged_ || isal.avail_out == 0) break;
    if (isal.avail_in == 0 && next_part_ == parts_.size()) break;
  }
  return out.size() - isal.avail_out;
}

bool InflatedStream::read(std::span<uint8_t> out) {
  return inflate(out) == out.size() && !damaged_;
}

bool InflatedStream::ended() {
  uint8_t more = 0;
  return inflate({&more, 1}) == 0 && !damaged_ && state_->isal.block_state == ISAL_BLOCK_FINISH;
}

uint32_t crc32(std::span<const uint8_t> bytes) {
  return crc32_gzip_refl(0, bytes.data(), bytes.size());
}

}  // namespace seg::detail
