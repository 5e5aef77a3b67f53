/// SHA-256 (FIPS 180-4) by OpenSSL: published files are named and checked by it.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace seg {

/// The digest of data that arrive in pieces.
class Sha256 {
 public:
  Sha256();
  void update(const char* data, size_t size);
  /// 64 hexadecimal digits; the object must not be used afterwards.
  std::string finish();

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

/// 64 hexadecimal digits.
std::string sha256_of_text(std::string_view data);
/// \throws DataError naming the file, where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace seg
