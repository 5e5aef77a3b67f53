#include "segcore/ops/bilinear_side.hpp"

#include <gtest/gtest.h>

#include "segcore/torch.hpp"

namespace seg::bilinear_side_test {

constexpr int kSizes[] = {1, 2, 3, 5, 8, 13, 40};

/// Calls `use(side)` for enlarging, reducing and keeping sizes.
template <class Use>
void for_sides(const Use& use) {
  for (const int in : kSizes) {
    for (const int out : kSizes) {
      for (const bool align_corners : {false, true}) {
        SCOPED_TRACE(testing::Message() << in << " to " << out << " corners " << align_corners);
        use(BilinearSide<double>(in, out, align_corners));
      }
    }
  }
}

TEST(BilinearSide, MixesAsLibTorch) {
  for_sides([](const BilinearSide<double>& side) {
    const auto row = torch::arange(side.in, torch::kFloat64).square();
    const auto resized =
        at::upsample_bilinear2d(row.view({1, 1, 1, -1}), {1, side.out}, side.align_corners);
    for (int i = 0; i < side.out; ++i) {
      const auto tap = side.tap(i);
      const double mixed = (1 - tap.share) * tap.low * tap.low + tap.share * tap.high * tap.high;
      EXPECT_NEAR(mixed, resized.view({-1})[i].item<double>(), 1e-10);
    }
  });
}

TEST(BilinearSide, FindsThePositionsThatReadAPlace) {
  for_sides([](const BilinearSide<double>& side) {
    for (int place = 0; place < side.in; ++place) {
      const int begin = side.first_from(place - 1), end = side.first_from(place + 1);
      double found = 0, all = 0;
      for (int i = 0; i < side.out; ++i) {
        const double share = side.tap(i).of(place);
        all += share;
        if (i >= begin && i < end) found += share;
      }
      EXPECT_EQ(found, all);
    }
  });
}

}  // namespace seg::bilinear_side_test
