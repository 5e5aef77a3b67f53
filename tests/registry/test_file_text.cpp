// file_text: all of a file, or nothing.
#include <gtest/gtest.h>

#include "registry/file_text.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

TEST(FileText, IsAllOfAFileOrNothing) {
  const test::TempDir dir;
  EXPECT_EQ(file_text(dir.write("a", std::string("x\0y\r\n", 5))), std::string("x\0y\r\n", 5));
  EXPECT_EQ(file_text(dir.write("empty", "")), "");
  EXPECT_EQ(file_text(dir / "none"), std::nullopt);
  // Opens, but cannot be read: as a file of /proc whose process has ended, or a damaged disk.
  EXPECT_EQ(file_text("/proc/self/mem"), std::nullopt);
  EXPECT_EQ(file_text(dir.path().string()), std::nullopt);
}

}  // namespace
}  // namespace seg
