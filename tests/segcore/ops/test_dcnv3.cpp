#include "segcore/ops/dcnv3/dcnv3.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/torch.hpp"

namespace seg::dcnv3_test {

using ::testing::HasSubstr;

/// Random arguments of a call; offsets of some pixels, some of them out of the map.
struct Call {
  Dcnv3Window window;
  torch::Tensor x, offset, mask;
  int64_t height = 0, width = 0;  ///< of the result

  explicit Call(const Dcnv3Window& w, int64_t rows, int64_t columns, int64_t channels) : window(w) {
    const auto side = [&](size_t axis, int64_t length) {
      const int64_t span = w.dilation[axis] * (w.kernel[axis] - 1) + 1;
      return (length + 2 * w.padding[axis] - span) / w.stride[axis] + 1;
    };
    height = side(0, rows);
    width = side(1, columns);
    const int64_t taps = w.kernel[0] * w.kernel[1];
    torch::manual_seed(0);
    x = torch::randn({2, rows, columns, w.groups * channels}, torch::kFloat64);
    offset = 2 * torch::randn({2, height, width, w.groups * taps * 2}, torch::kFloat64);
    mask = torch::randn({2, height, width, w.groups * taps}, torch::kFloat64);
  }
};

std::vector<Call> calls() {
  return {Call({}, 5, 7, 3),
          Call({.groups = 4, .offset_scale = 2}, 6, 5, 2),
          Call({.kernel = {3, 5}, .padding = {1, 2}, .groups = 2}, 5, 6, 4),
          Call({.stride = {2, 1}, .padding = {0, 1}, .groups = 3}, 7, 6, 1),
          Call({.padding = {2, 2}, .dilation = {2, 2}, .groups = 2, .offset_scale = 0.5}, 6, 6, 5),
          Call({.kernel = {1, 1}, .padding = {0, 0}}, 3, 4, 2),
          Call({.kernel = {2, 4}, .padding = {1, 3}, .dilation = {1, 2}}, 5, 8, 2)};
}

TEST(Dcnv3, SumsMovedTaps) {
  // One tap of one channel on a map of 2x3: the first output looks one pixel to the right, the
  // second half a pixel down, the last one half out of the map, at half of the factor.
  const Dcnv3Window window{.kernel = {1, 1}, .padding = {0, 0}};
  const auto x = torch::tensor({1.0, 2.0, 4.0, 8.0, 16.0, 32.0}).view({1, 2, 3, 1});
  auto offset = torch::zeros({1, 2, 3, 2});
  offset[0][0][0][0] = 1;
  offset[0][0][1][1] = 0.5;
  offset[0][1][2][0] = 0.5;
  auto mask = torch::ones({1, 2, 3, 1});
  mask[0][1][2][0] = 0.5;
  EXPECT_TRUE(torch::equal(dcnv3(x, offset, mask, window).flatten(),
                           torch::tensor({2.0f, 9.0f, 4.0f, 8.0f, 16.0f, 8.0f})));
}

TEST(Dcnv3, CountsTapsColumnByColumn) {
  const auto x = torch::arange(9, torch::kFloat32).view({1, 3, 3, 1});
  const auto offset = torch::zeros({1, 3, 3, 18});
  for (int64_t tap = 0; tap < 9; ++tap) {
    auto mask = torch::zeros({1, 3, 3, 9});
    mask.select(3, tap).fill_(1);
    const auto out = dcnv3(x, offset, mask, {});
    // At the middle the window is the whole map.
    EXPECT_EQ(out[0][1][1][0].item<int64_t>(), tap % 3 * 3 + tap / 3) << tap;
  }
}

TEST(Dcnv3, StretchesTheWindowByTheScale) {
  const auto x = torch::arange(25, torch::kFloat32).view({1, 5, 5, 1});
  auto mask = torch::zeros({1, 5, 5, 9});
  mask.select(3, 8).fill_(1);  // below at the right
  auto offset = torch::zeros({1, 5, 5, 18});
  const auto at_middle = [&](double scale) {
    return dcnv3(x, offset, mask, {.offset_scale = scale})[0][2][2][0].item<double>();
  };
  EXPECT_EQ(at_middle(1), 18);
  EXPECT_EQ(at_middle(2), 24);
  offset.select(3, 16).fill_(-0.5);  // right: 1 - 0.5, times the scale
  EXPECT_EQ(at_middle(2), 23);
}

TEST(Dcnv3, KernelIsItsDefinition) {
  for (const auto& c : calls()) {
    const auto found = dcnv3(c.x, c.offset, c.mask, c.window);
    EXPECT_EQ(found.sizes(), at::IntArrayRef({2, c.height, c.width, c.x.size(3)}));
    EXPECT_TRUE(
        torch::allclose(found, composed_dcnv3(c.x, c.offset, c.mask, c.window), 1e-10, 1e-12));
  }
}

/// Gradients of x, offset and mask through the weighted sum of a result.
std::vector<torch::Tensor> gradients_through(
    const Call& c, const std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&,
                                                     const torch::Tensor&)>& f) {
  std::vector<torch::Tensor> inputs;
  for (const auto& t : {c.x, c.offset, c.mask}) {
    inputs.push_back(t.detach().clone().requires_grad_());
  }
  const auto out = f(inputs[0], inputs[1], inputs[2]);
  (out * torch::arange(out.numel(), out.options()).view(out.sizes()).cos()).sum().backward();
  return {inputs[0].grad(), inputs[1].grad(), inputs[2].grad()};
}

TEST(Dcnv3, GradientsAreThoseOfTheDefinition) {
  for (const auto& c : calls()) {
    const auto by = [&](auto op) {
      return gradients_through(c, [&](const auto& x, const auto& offset, const auto& mask) {
        return op(x, offset, mask, c.window);
      });
    };
    const auto expected = by(&composed_dcnv3), found = by(&dcnv3);
    const auto cosine = torch::arange(2 * c.height * c.width * c.x.size(3), torch::kFloat64)
                            .view({2, c.height, c.width, -1})
                            .cos();
    const auto [x, offset, mask] = composed_dcnv3_backward(cosine, c.x, c.offset, c.mask, c.window);
    const std::vector<torch::Tensor> composed{x, offset, mask};
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_GT(expected[i].abs().max().item<double>(), 0.01);
      EXPECT_TRUE(torch::allclose(found[i], expected[i], 1e-9, 1e-11)) << i;
      EXPECT_TRUE(torch::allclose(composed[i], expected[i], 1e-9, 1e-11)) << i;
    }
  }
}

TEST(Dcnv3, GradientsAtTheEdgeAreThoseOfTheDefinition) {
  // Without offsets the taps beside the map are at places of whole pixels, where it starts.
  Call c({.groups = 2}, 4, 4, 2);
  c.offset.zero_();
  const auto by = [&](auto op) {
    return gradients_through(c, [&](const auto& x, const auto& offset, const auto& mask) {
      return op(x, offset, mask, c.window);
    })[1];
  };
  const auto found = by(&dcnv3);
  EXPECT_TRUE(torch::allclose(found, by(&composed_dcnv3), 1e-9, 1e-11));
  // The first tap of the first output is one pixel left of the map and one above.
  EXPECT_EQ(found[0][0][0][0].item<double>(), 0);
  // The second is one pixel left, in the first row: it would see the first column from there on.
  EXPECT_NE(found[0][0][0][2].item<double>(), 0);
}

TEST(Dcnv3, KeepsTheTypeOfTheMap) {
  const Call c({.groups = 2}, 6, 6, 4);
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    auto x = c.x.to(type).requires_grad_();
    const auto out = dcnv3(x, c.offset.to(torch::kFloat), c.mask.to(type), c.window);
    EXPECT_EQ(out.scalar_type(), type);
    out.sum().backward();
    EXPECT_EQ(x.grad().scalar_type(), type);
    const double allowed = type == torch::kFloat ? 1e-4 : 0.2;
    EXPECT_LT((out.to(torch::kFloat64) - composed_dcnv3(c.x, c.offset, c.mask, c.window))
                  .abs()
                  .max()
                  .item<double>(),
              allowed);
  }
}

TEST(Dcnv3, PlacesThatAreNoNumbersGiveZero) {
  const Call c({}, 3, 3, 1);
  const auto nowhere = torch::full_like(c.offset, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(dcnv3(c.x, nowhere, c.mask, c.window).abs().max().item<double>(), 0);
  const auto far = torch::full_like(c.offset, 1e30);
  EXPECT_EQ(dcnv3(c.x, far, c.mask, c.window).abs().max().item<double>(), 0);
}

TEST(Dcnv3, SaysWhatDoesNotFit) {
  const Call c({.groups = 2}, 6, 6, 4);
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(message([&] { dcnv3(c.x, c.mask, c.mask, c.window); }),
              HasSubstr("dcnv3: offset: expected [2, 6, 6, 36], got [2, 6, 6, 18]"));
  EXPECT_THAT(message([&] { dcnv3(c.x, c.offset, c.offset, c.window); }),
              HasSubstr("dcnv3: mask: expected [2, 6, 6, 18], got [2, 6, 6, 36]"));
  EXPECT_THAT(message([&] { dcnv3(c.x, c.offset, c.mask, {.groups = 3}); }),
              HasSubstr("dcnv3: 8 channels cannot be divided into 3 groups"));
  EXPECT_THAT(message([&] {
                dcnv3(c.x, c.offset, c.mask, {.dilation = {4, 1}, .groups = 2});
              }),
              HasSubstr("dcnv3: a window of 9 pixels does not fit a map of [2, 6, 6, 8]"));
  EXPECT_THAT(message([&] {
                dcnv3(c.x, c.offset, c.mask, {.stride = {0, 1}, .groups = 2});
              }),
              HasSubstr("dcnv3: kernel, stride and dilation must be positive"));
  const auto twice = c.x.detach().clone().requires_grad_();
  EXPECT_THAT(message([&] {
                const auto out = dcnv3(twice, c.offset, c.mask, c.window);
                torch::autograd::grad({out.sum()}, {twice}, {}, true, /*create_graph=*/true);
              }),
              HasSubstr("dcnv3 has no second derivative"));
}

}  // namespace seg::dcnv3_test
