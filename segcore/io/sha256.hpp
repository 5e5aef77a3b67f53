/// SHA-256 (FIPS 180-4) by OpenSSL: published files are named and checked by it.
#pragma once
#include <string>
#include <string_view>

namespace seg {

/// 64 hexadecimal digits.
std::string sha256_of_text(std::string_view data);
/// \throws DataError naming the file, where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace seg
