#include "runners/log/progress_bar.hpp"

#include <gtest/gtest.h>

namespace seg {
namespace {

TEST(ProgressLine, FillsTheWidth) {
  const ProgressFacts half{"train", 400, 800, {"eta 0:01:32", "loss 0.2312", "52.1 images/s"}};
  EXPECT_EQ(progress_line(half, 80),
            "train  400/800 [==========>            ] eta 0:01:32  loss 0.2312  52.1 images/s");
  for (int width = 30; width < 200; ++width) {
    EXPECT_EQ(progress_line(half, width).size(), static_cast<size_t>(width));
  }
}

TEST(ProgressLine, LeavesOutWhatIsLeastImportantInNarrowLines) {
  const ProgressFacts half{"val", 1, 10, {"eta 0:01:32", "3% waiting for data"}};
  EXPECT_EQ(progress_line(half, 45), "val   1/10 [=>                  ] eta 0:01:32");
  EXPECT_EQ(progress_line(half, 30), "val   1/10 [>                ]");
  EXPECT_EQ(progress_line(half, 8), "val   1/");
}

TEST(ProgressLine, BeginsEmptyAndEndsFull) {
  EXPECT_EQ(progress_line({"test", 0, 5, {}}, 20), "test  0/5 [        ]");
  EXPECT_EQ(progress_line({"test", 5, 5, {}}, 20), "test  5/5 [========]");
  EXPECT_EQ(progress_line({"test", 0, 0, {}}, 20), "test  0/0 [        ]");
}

}  // namespace
}  // namespace seg
