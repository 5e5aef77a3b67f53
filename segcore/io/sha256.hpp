/// SHA-256 (FIPS 180-4), by which published files are named and checked.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace seg {

/// The digest of data that come in pieces.
class Sha256 {
 public:
  void update(const char* data, size_t size);
  /// 64 hexadecimal digits; the object is spent.
  std::string finish();

 private:
  void digest_block();

  /// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> block_{};
  size_t filled_ = 0;
  uint64_t length_ = 0;
};

/// 64 hexadecimal digits.
std::string sha256_of_text(std::string_view data);
/// \throws DataError naming the file, where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace seg
