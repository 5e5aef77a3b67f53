#include "segcore/ops/resized_pixels.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/gpu_gradient.hpp"

namespace seg::resized_pixels_test {

at::Tensor values(const std::string& name, at::IntArrayRef shape) {
  return (reference::uniform(name, c10::multiply_integers(shape)) - 0.5).reshape(shape);
}

/// A pixel of label 1 does not count; of the others the sum of squares is differentiated.
struct SquaresOfPixels {
  struct Note {
    bool counts;
    bool has_gradient() const { return counts; }
  };
  const int64_t* labels;
  Note note(int64_t pixel) const { return {labels[pixel] != 1}; }
  double gradient(const Note&, int64_t map, int c, double value) const {
    EXPECT_EQ(map % 5, c);
    return 2 * value;
  }
};

TEST(ResizedPixels, GradientOfAPlaceIsThatOfResizingHoweverManyThreadsShareIt) {
  for (const bool align_corners : {false, true}) {
    for (const auto& size : std::vector<std::vector<int64_t>>{{3, 2, 29, 40}, {7, 6, 4, 5}}) {
      const auto x = values("logits", {2, 5, size[0], size[1]}).requires_grad_();
      const auto labels = (values("labels", {2, size[2], size[3]}) * 4).to(at::kLong);
      const auto large = at::upsample_bilinear2d(x, {size[2], size[3]}, align_corners);
      (large.square() * (labels != 1).unsqueeze(1)).sum().backward();
      const ResizedCall call(x.detach(), labels, align_corners);
      const SquaresOfPixels pixels{call.labels.const_data_ptr<int64_t>()};
      for (const int lanes : {1, 2, 8, 32}) {
        const auto found = gradient_by_gpu_arithmetic<double, double>(pixels, call, lanes);
        EXPECT_TRUE(at::allclose(found, x.grad(), 1e-10, 1e-12)) << lanes << " lanes";
      }
    }
  }
}

TEST(ResizedPixels, MoreThreadsShareAPlaceThatReachesMorePixels) {
  const auto lanes = [](int height, int out_height) {
    return lanes_of_place({1, 19, height, 16, out_height, 64, false});
  };
  EXPECT_EQ(lanes(128, 512), 1);
  EXPECT_EQ(lanes(128, 64), 1);
  EXPECT_EQ(lanes(64, 512), 2);
  EXPECT_EQ(lanes(16, 512), 8);
  EXPECT_EQ(lanes(1, 1024), 32);
}

TEST(ResizedPixels, LogitsOfAPixelAreResized) {
  const auto x = values("logits", {2, 3, 5, 4});
  const ResizedLogits g{2, 3, 5, 4, 11, 9, false};
  const auto large = at::upsample_bilinear2d(x, {11, 9}, false);
  for (int64_t pixel = 0; pixel < 2 * 11 * 9; ++pixel) {
    const PixelLogits<double, double> logits(x.const_data_ptr<double>(), g, pixel);
    for (int c = 0; c < 3; ++c) {
      const auto expected = large[pixel / 99][c][pixel / 9 % 11][pixel % 9].item<double>();
      EXPECT_NEAR(logits.of(c), expected, 1e-12);
    }
  }
}

TEST(ResizedPixels, RunningSoftmaxSumsInAnyOrder) {
  const double least = -std::numeric_limits<double>::infinity();
  for (const auto& logits : std::vector<std::vector<double>>{
           {1, 2, 3, 3, -4}, {700, -700, 3}, {-2000, -1999}, {5}, {least, least, 2, least}}) {
    RunningSoftmax<double> softmax;
    for (size_t c = 0; c < logits.size(); ++c) softmax.add(static_cast<int>(c), logits[c]);
    const auto expected = at::tensor(logits, at::kDouble);
    EXPECT_NEAR(softmax.best + std::log(softmax.sum), expected.logsumexp(0).item<double>(), 1e-12);
    EXPECT_EQ(softmax.best_class, expected.argmax().item<int64_t>());
  }
}

}  // namespace seg::resized_pixels_test
