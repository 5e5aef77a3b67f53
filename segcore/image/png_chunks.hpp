/// The chunks that a PNG file consists of (PNG specification, 5.3).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace seg::detail {

struct PngChunk {
  std::string_view type;
  std::span<const uint8_t> data;
  std::span<const uint8_t> checked;  ///< type and data, of which the checksum is
  uint32_t checksum = 0;
  bool is_whole() const;  ///< whether the checksum is right
};

/// Reads chunk by chunk.
class PngChunks {
 public:
  explicit PngChunks(std::span<const uint8_t> file) : file_(file) {}
  /// Nothing where no whole chunk is left.
  std::optional<PngChunk> next();

 private:
  std::span<const uint8_t> file_;
  size_t at_ = 8;  ///< behind the signature
};

}  // namespace seg::detail
