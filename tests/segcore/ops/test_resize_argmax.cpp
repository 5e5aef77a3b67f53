#include "segcore/ops/resize_argmax/resize_argmax.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/upsampling.h>

#include "registry/error.hpp"
#include "segcore/torch.hpp"

namespace seg::resize_argmax_test {

namespace F = torch::nn::functional;

torch::Tensor resized(const torch::Tensor& x, int64_t h, int64_t w, bool align_corners) {
  return F::interpolate(x, F::InterpolateFuncOptions()
                               .size(std::vector<int64_t>{h, w})
                               .mode(torch::kBilinear)
                               .align_corners(align_corners));
}

/// The plain composition: everything at full size.
torch::Tensor full_logits(const torch::Tensor& logits, const LogitsGeometry& g) {
  auto x = resized(logits.unsqueeze(0), g.input[0], g.input[1], g.align_corners);
  x = x.narrow(2, 0, g.unpadded[0]).narrow(3, 0, g.unpadded[1]);
  if (g.flip_horizontal) x = x.flip({3});
  if (g.flip_vertical) x = x.flip({2});
  return resized(x, g.original[0], g.original[1], g.align_corners).squeeze(0);
}

struct Case {
  LogitsGeometry geometry;
  const char* name;
};

class LogitRowsTest : public ::testing::TestWithParam<bool> {};

std::vector<Case> cases(bool align) {
  return {
      {{{64, 96}, {64, 96}, {64, 96}, false, false, align}, "same size"},
      {{{64, 96}, {64, 96}, {137, 201}, false, false, align}, "enlarged"},
      {{{64, 96}, {64, 96}, {31, 45}, false, false, align}, "reduced"},
      {{{64, 96}, {50, 77}, {123, 90}, false, false, align}, "padded"},
      {{{64, 96}, {50, 77}, {123, 90}, true, false, align}, "flipped left to right"},
      {{{64, 96}, {50, 77}, {123, 90}, false, true, align}, "flipped upside down"},
      {{{64, 96}, {50, 77}, {50, 77}, true, true, align}, "flipped both ways"},
      {{{16, 24}, {16, 24}, {33, 50}, false, false, align}, "already at input size"},
      {{{64, 96}, {64, 96}, {1, 1}, false, false, align}, "one pixel"},
  };
}

TEST_P(LogitRowsTest, AreTheRowsOfThePlainComposition) {
  torch::manual_seed(0);
  const auto logits = torch::randn({7, 16, 24}, torch::kFloat64);
  for (const auto& c : cases(GetParam())) {
    const LogitRows rows(logits, c.geometry);
    const auto expected = full_logits(logits, c.geometry);
    ASSERT_EQ(rows.height(), expected.size(1)) << c.name;
    const int64_t h = rows.height();
    EXPECT_TRUE(torch::allclose(rows.rows(0, h), expected, 1e-12, 1e-12)) << c.name;
    const int64_t middle = h / 3;
    EXPECT_TRUE(
        torch::allclose(rows.rows(middle, h), expected.narrow(1, middle, h - middle), 1e-12, 1e-12))
        << c.name << ", from row " << middle;
    EXPECT_TRUE(torch::equal(resize_argmax(rows, 0.3), expected.argmax(0))) << c.name;
  }
}

INSTANTIATE_TEST_SUITE_P(AlignCorners, LogitRowsTest, ::testing::Bool());

TEST(ResizeArgmax, LargeImagesAreDoneInStrips) {
  torch::manual_seed(1);
  // 150 classes x 1200 columns: a strip has 46 rows.
  const auto logits = torch::randn({150, 20, 30}, torch::kFloat64);
  const LogitsGeometry g{{80, 120}, {80, 120}, {130, 1200}, false, false, false};
  EXPECT_TRUE(
      torch::equal(resize_argmax(LogitRows(logits, g), 0.3), full_logits(logits, g).argmax(0)));
}

TEST(ResizeArgmax, SinglePrecisionAgreesButForTies) {
  torch::manual_seed(2);
  const auto logits = torch::randn({19, 32, 64});
  const LogitsGeometry g{{128, 256}, {128, 250}, {200, 400}, false, false, false};
  const auto ids = resize_argmax(LogitRows(logits, g), 0.3);
  const auto same = (ids == full_logits(logits, g).argmax(0)).to(torch::kDouble).mean();
  EXPECT_GT(same.item<double>(), 0.9999);
}

/// The largest logit that could have been chosen above the one that was.
double worst_choice(const torch::Tensor& ids, const torch::Tensor& full) {
  return (std::get<0>(full.max(0)) - full.gather(0, ids.unsqueeze(0)).squeeze(0))
      .max()
      .item<double>();
}

TEST_P(LogitRowsTest, SinglePrecisionChoosesTheLargestLogit) {
  torch::manual_seed(3);
  for (const int64_t classes : {2, 7, 8, 19, 150}) {
    const auto logits = torch::randn({classes, 16, 24});
    for (const auto& c : cases(GetParam())) {
      const auto full = full_logits(logits, c.geometry);
      const auto ids = resize_argmax(LogitRows(logits, c.geometry), 0.3);
      ASSERT_EQ(ids.sizes(), full[0].sizes());
      EXPECT_LT(worst_choice(ids, full), 1e-5) << c.name << ", " << classes << " classes";
    }
  }
}

TEST(ResizeArgmax, OfEqualLogitsTheFirstIsChosen) {
  for (const int64_t first : {0, 3, 7, 8, 17}) {
    auto logits = torch::full({19, 4, 4}, -1.0F);
    logits.narrow(0, first, 19 - first).fill_(2);
    const LogitsGeometry g{{8, 8}, {8, 8}, {8, 8}, false, false, false};
    EXPECT_TRUE((resize_argmax(LogitRows(logits, g), 0.3) == first).all().item<bool>()) << first;
  }
}

TEST(ResizeArgmax, WhatIsNotANumberIsTakenForTheLargest) {
  for (const int64_t nan : {0, 2, 8, 17}) {
    auto logits = torch::rand({19, 4, 4});
    logits.narrow(0, nan, 2).fill_(std::nan(""));
    const LogitsGeometry g{{8, 8}, {8, 8}, {8, 8}, false, false, false};
    EXPECT_TRUE((resize_argmax(LogitRows(logits, g), 0.3) == nan).all().item<bool>()) << nan;
  }
}

TEST(ResizeArgmax, WithoutFiniteLogitsTheFirstClassIsChosen) {
  const auto logits = torch::full({19, 4, 4}, -std::numeric_limits<float>::infinity());
  const LogitsGeometry g{{8, 8}, {8, 8}, {8, 8}, false, false, false};
  EXPECT_TRUE((resize_argmax(LogitRows(logits, g), 0.3) == 0).all().item<bool>());
}

TEST(ResizeArgmax, OneChannelIsComparedWithTheThreshold) {
  const auto logits = torch::tensor({{{-3.0, 3.0}, {0.1, -0.1}}}, torch::kFloat64);
  const LogitsGeometry g{{2, 2}, {2, 2}, {2, 2}, false, false, false};
  const auto expected = torch::tensor({{0, 1}, {1, 0}}, torch::kLong);
  EXPECT_TRUE(torch::equal(resize_argmax(LogitRows(logits, g), 0.5), expected));
  EXPECT_EQ(resize_argmax(LogitRows(logits, g), 0.01).sum().item<int64_t>(), 4);
}

/// Calls the operator as any user of LibTorch's dispatcher would.
torch::Tensor call_by_name(const torch::Tensor& logits, const LogitsGeometry& g, double threshold) {
  torch::jit::Stack stack{logits,
                          at::IntArrayRef(g.input),
                          at::IntArrayRef(g.unpadded),
                          at::IntArrayRef(g.original),
                          g.flip_horizontal,
                          g.flip_vertical,
                          g.align_corners,
                          threshold};
  c10::Dispatcher::singleton().findSchemaOrThrow("segcore::resize_argmax", "").callBoxed(stack);
  return stack.at(0).toTensor();
}

TEST(ResizeArgmax, IsAnOperatorOfTheDispatcher) {
  torch::manual_seed(4);
  const auto logits = torch::randn({7, 16, 24}, torch::kFloat64).requires_grad_();
  for (const bool align : {false, true}) {
    for (const auto& c : cases(align)) {
      const auto ids = call_by_name(logits, c.geometry, 0.3);
      EXPECT_FALSE(ids.requires_grad());
      EXPECT_TRUE(torch::equal(ids, full_logits(logits, c.geometry).argmax(0))) << c.name;
    }
  }
}

TEST(ResizeArgmax, RefusesSizesThatAreNotHeightAndWidth) {
  const auto logits = torch::zeros({2, 4, 4});
  LogitsGeometry g{{4, 4}, {4, 4}, {4, 0}, false, false, false};
  try {
    call_by_name(logits, g, 0.3);
    FAIL() << "accepted";
  } catch (const seg::Error& e) {
    EXPECT_THAT(e.what(),
                ::testing::HasSubstr("original: expected a height and a width, got [4, 0]"));
  }
}

TEST(ResizeArgmax, ABandOfRowsTakesTheDefinition) {
  torch::manual_seed(5);
  const auto logits = torch::randn({5, 8, 8}, torch::kFloat64);
  const LogitsGeometry g{{8, 8}, {8, 8}, {8, 12}, false, false, false};
  const LogitRows band(logits, g, /*first_row=*/0);
  EXPECT_TRUE(torch::equal(resize_argmax(band, 0.3), full_logits(logits, g).argmax(0)));
  EXPECT_TRUE(torch::equal(LogitRows(logits.narrow(1, 2, 3), g, 2).rows(2, 5),
                           LogitRows(logits, g).rows(2, 5)));
}

TEST(ResizeArgmaxMean, AveragesProbabilities) {
  torch::manual_seed(3);
  const auto a = torch::randn({5, 8, 8}, torch::kFloat64);
  const auto b = torch::randn({5, 12, 12}, torch::kFloat64);
  LogitsGeometry ga{{32, 32}, {32, 32}, {40, 50}, false, false, false};
  LogitsGeometry gb{{48, 48}, {48, 48}, {40, 50}, true, false, false};
  const auto mean = (full_logits(a, ga).softmax(0) + full_logits(b, gb).softmax(0)) / 2;
  EXPECT_TRUE(
      torch::equal(resize_argmax_mean({LogitRows(a, ga), LogitRows(b, gb)}, 0.3), mean.argmax(0)));
  EXPECT_TRUE(torch::allclose(resize_scores_mean({LogitRows(a, ga), LogitRows(b, gb)}), mean, 1e-12,
                              1e-12));
}

}  // namespace seg::resize_argmax_test
