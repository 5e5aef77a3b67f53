#include <gtest/gtest.h>

#include "segcore/evaluation/class_counts.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

TEST(ClassCounts, OnePassAndHistogramCountAlike) {
  // Classes 0 to 4; 5 and -1 are in no class; 7 is ignored.
  const auto labels =
      (reference::uniform("labels", 60 * 70) * 9).to(at::kLong).reshape({60, 70}) - 1;
  const auto guess = (reference::uniform("guess", 60 * 70) * 7).to(at::kLong).reshape({60, 70}) - 1;
  const auto right = (reference::uniform("right", 60 * 70) < 0.5).reshape({60, 70});
  const auto prediction = torch::where(right, labels, guess);
  at::Tensor counts = torch::zeros({3, 6}, at::kLong);
  EXPECT_GE(count_classes_(counts, prediction, labels, 7), -1);
  EXPECT_TRUE(torch::equal(counts, class_histogram(prediction, labels, 5, 7)));
  // Added to what is there, and of bytes as of wide integers.
  at::Tensor bytes = torch::zeros({3, 6}, at::kLong);
  const auto clean = labels.clamp_min(0);
  count_classes_(bytes, prediction, clean.to(at::kByte), 7);
  count_classes_(bytes, prediction, clean, 7);
  EXPECT_TRUE(torch::equal(bytes, class_histogram(prediction, clean, 5, 7) * 2));
  for (int64_t c = 0; c < 5; ++c) {
    const auto counted = labels.ne(7);
    EXPECT_EQ(counts[1][c].item<int64_t>(),
              prediction.eq(c).logical_and(counted).sum().item<int64_t>());
    EXPECT_EQ(counts[2][c].item<int64_t>(), labels.eq(c).sum().item<int64_t>());
    EXPECT_EQ(counts[0][c].item<int64_t>(),
              labels.eq(c).logical_and(prediction.eq(c)).sum().item<int64_t>());
  }
}

TEST(ClassCounts, TellTheFirstLabelInNoClass) {
  at::Tensor counts = torch::zeros({3, 3}, at::kLong);
  const auto ids = torch::zeros({1, 4}, at::kLong);
  EXPECT_EQ(count_classes_(counts, ids, torch::tensor({{0, 255, 9, 8}}, at::kLong), 255), 9);
  EXPECT_EQ(count_classes_(counts, ids, torch::tensor({{0, 255, 1, 1}}, at::kLong), 255), -1);
}

}  // namespace
}  // namespace seg
