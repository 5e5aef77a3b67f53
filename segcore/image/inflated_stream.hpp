/// Decompression that goes as far as it is asked for.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace seg::detail {

/// A zlib stream (RFC 1950) in memory, through ISA-L, which is about three times as fast as zlib.
class InflatedStream {
 public:
  /// \param parts  of the stream, in order. They must outlive it.
  /// \param with_checksum  false: it is not read to its end, and `ended` is not asked for. The sum
  ///                       of what is read, a tenth of the time, is left out.
  explicit InflatedStream(std::vector<std::span<const uint8_t>> parts, bool with_checksum = true);
  ~InflatedStream();
  /// Fills `out` with the next bytes. \return false where the stream is damaged or has fewer left.
  bool read(std::span<uint8_t> out);
  /// Whether all bytes have been read, and the checksum is theirs.
  bool ended();

 private:
  struct State;
  /// \return the bytes that were written; fewer than asked for at the end or where it is damaged.
  size_t inflate(std::span<uint8_t> out);

  std::vector<std::span<const uint8_t>> parts_;
  size_t next_part_ = 0;
  bool damaged_ = false;
  std::unique_ptr<State> state_;
};

/// As PNG and gzip files have it.
uint32_t crc32(std::span<const uint8_t> bytes);

}  // namespace seg::detail
