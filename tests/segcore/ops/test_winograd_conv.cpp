#include "segcore/ops/conv2d/conv2d.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "segcore/models/nn/conv.hpp"
#include "segcore/ops/conv2d/winograd_passes.hpp"
#include "segcore/precision.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

struct WinogradCase {
  int64_t images, in, out, height, width, dilation = 1;
};

std::ostream& operator<<(std::ostream& out, const WinogradCase& c) {
  return out << c.images << "x" << c.in << "x" << c.height << "x" << c.width << " to " << c.out
             << ", dilation " << c.dilation;
}

/// The largest difference, as a part of the largest value expected.
double difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).abs().max() / expected.abs().max()).item<double>();
}

class WinogradConv : public ::testing::TestWithParam<WinogradCase> {
 protected:
  void SetUp() override {
    const auto& c = GetParam();
    x = signed_values("x", {c.images, c.in, c.height, c.width});
    weight = signed_values("weight", {c.out, c.in, 3, 3});
    bias = signed_values("bias", {c.out});
    gradient = signed_values("gradient", {c.images, c.out, c.height, c.width});
  }

  /// The map and the gradients by x and weight, by the passes themselves.
  std::vector<at::Tensor> convolve() const {
    const auto& c = GetParam();
    const TileGrid grid{c.images, c.height, c.width, c.dilation};
    const auto x32 = x.to(at::kFloat), w32 = weight.to(at::kFloat), g32 = gradient.to(at::kFloat),
               b32 = bias.to(at::kFloat);
    auto y = at::empty_like(g32), by_x = at::empty_like(x32), by_weight = at::empty_like(w32);
    const auto* w = w32.const_data_ptr<float>();
    winograd_convolve(grid, {w, c.out, c.in}, x32.const_data_ptr<float>(),
                      b32.const_data_ptr<float>(), y.mutable_data_ptr<float>());
    winograd_convolve(grid, {w, c.out, c.in, /*adjoint=*/true}, g32.const_data_ptr<float>(),
                      nullptr, by_x.mutable_data_ptr<float>());
    winograd_kernel_gradient(grid, c.in, c.out, x32.const_data_ptr<float>(),
                             g32.const_data_ptr<float>(), by_weight.mutable_data_ptr<float>());
    return {y, by_x, by_weight};
  }

  at::Tensor x, weight, bias, gradient;
};

TEST_P(WinogradConv, IsTheConvolution) {
  const auto& c = GetParam();
  const auto found = convolve();
  const std::vector<int64_t> ones{1, 1}, apart{c.dilation, c.dilation};
  const auto y = at::conv2d(x, weight, bias, ones, apart, apart);
  const auto [by_x, by_weight, unused] = at::convolution_backward(
      gradient, x, weight, std::nullopt, ones, apart, apart, false, {0, 0}, 1, {true, true, false});
  EXPECT_LT(difference(found[0], y), 1e-5);
  EXPECT_LT(difference(found[1], by_x), 1e-5);
  EXPECT_LT(difference(found[2], by_weight), 1e-5);
}

TEST_P(WinogradConv, DoesNotDependOnThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = convolve();
  at::set_num_threads(4);
  const auto together = convolve();
  at::set_num_threads(threads);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(torch::equal(alone[i], together[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, WinogradConv,
    ::testing::Values(WinogradCase{1, 1, 1, 4, 4}, WinogradCase{2, 3, 5, 9, 13},
                      WinogradCase{1, 13, 12, 32, 40}, WinogradCase{2, 34, 50, 17, 70},
                      WinogradCase{1, 7, 25, 300, 24}, WinogradCase{2, 260, 9, 8, 12},
                      WinogradCase{1, 530, 14, 8, 8}, WinogradCase{2, 6, 8, 13, 11, 2},
                      WinogradCase{1, 5, 3, 20, 19, 3}, WinogradCase{1, 4, 4, 5, 3, 4}));

TEST(WinogradConvolution, IsChosenWhereItIsFaster) {
  EXPECT_TRUE(winograd_is_faster({2, 128, 128, 1}, 64, 64));
  EXPECT_TRUE(winograd_is_faster({2, 64, 64, 1}, 512, 512));
  EXPECT_TRUE(winograd_is_faster({2, 64, 64, 1}, 18, 18));  // a direct one takes 32 channels
  EXPECT_FALSE(
      winograd_is_faster({2, 256, 256, 1}, 3, 64));  // transforms of many pixels, little else
  EXPECT_FALSE(winograd_is_faster({1, 8, 8, 1}, 512, 512));     // transforms of many kernels
  EXPECT_FALSE(winograd_is_faster({2, 64, 64, 36}, 512, 512));  // tiles of one pixel
}

TEST(WinogradConvolution, OfALayerHasTheGradientsOfTheDirectOne) {
  const std::vector<int64_t> ones{1, 1};
  for (const bool with_bias : {true, false}) {
    const auto x = signed_leaf("x", {1, 32, 48, 48});
    const auto weight = signed_leaf("weight", {40, 32, 3, 3});
    const auto bias = with_bias ? signed_leaf("bias", {40}) : at::Tensor();
    ASSERT_TRUE(winograd_is_faster({1, 48, 48, 1}, 32, 40));
    std::vector<std::vector<at::Tensor>> results;
    for (const bool ours : {true, false}) {
      const auto y = ours ? conv2d(x, weight, bias, ones, ones)
                          : at::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/1);
      std::vector<at::Tensor> leaves{x, weight};
      if (with_bias) leaves.push_back(bias);
      auto& found = results.emplace_back(torch::autograd::grad({(y * y).sum()}, leaves));
      found.push_back(y);
    }
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_LT(difference(results[0][i], results[1][i].to(at::kDouble)), 1e-5) << i;
    }
  }
}

TEST(WinogradConvolution, OfALayerKeepsItsTypeAndFormat) {
  auto conv = std::make_shared<Conv2d>(
      ConvOptions{.in_channels = 128, .out_channels = 136, .kernel_size = 3, .padding = 1});
  const auto x = signed_values("x", {2, 128, 64, 64}).to(at::kFloat);
  ASSERT_TRUE(winograd_is_faster({2, 64, 64, 1}, 128, 136, /*copied=*/true));
  const auto last = x.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(conv->forward(x).is_contiguous());
  EXPECT_TRUE(conv->forward(last).is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(torch::equal(conv->forward(x), conv->forward(last)));
  const auto leaf = last.detach().requires_grad_();
  conv->forward(leaf).sum().backward();
  EXPECT_TRUE(leaf.grad().is_contiguous(at::MemoryFormat::ChannelsLast));
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_EQ(conv->forward(x).scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace seg
