#include "segcore/io/sha256.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

// Examples of FIPS 180-4 and of NIST's test suite; the digests were also checked with sha256sum.
TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha256_of_text(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of_text("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, ReadsFilesInPieces) {
  const test::TempDir dir;
  const std::string path = dir / "letters";
  // Two megabytes and a bit: more than one read.
  const std::string letters((2 << 20) + 17, 'a');
  std::ofstream(path, std::ios::binary) << letters;
  EXPECT_EQ(sha256_of_file(path), sha256_of_text(letters));
  std::ofstream(path, std::ios::binary) << std::string(1000000, 'a');
  EXPECT_EQ(sha256_of_file(path),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace seg
