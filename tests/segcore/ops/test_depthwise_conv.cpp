#include "segcore/ops/conv2d/conv2d.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "segcore/models/nn/conv.hpp"
#include "segcore/precision.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

struct DepthwiseCase {
  int64_t images, channels, height, width;
  Size2 kernel;
  Size2 padding = 0, stride = 1, dilation = 1;
  bool bias = true;
};

std::ostream& operator<<(std::ostream& out, const DepthwiseCase& c) {
  const auto pair = [&](const char* name, Size2 s) { out << name << s.h << "x" << s.w; };
  out << c.images << "x" << c.channels << "x" << c.height << "x" << c.width;
  pair(" by ", c.kernel);
  pair(", padding ", c.padding);
  pair(", stride ", c.stride);
  pair(", dilation ", c.dilation);
  return out << (c.bias ? ", bias" : "");
}

/// The map and the gradients by x, weight and, where there is one, bias.
std::vector<at::Tensor> convolve(const DepthwiseCase& c, at::ScalarType type,
                                 at::MemoryFormat format) {
  const auto leaf = [&](const at::Tensor& v) {
    return v.to(type)
        .contiguous(v.dim() == 4 ? format : at::MemoryFormat::Contiguous)
        .requires_grad_();
  };
  const auto x = leaf(signed_values("x", {c.images, c.channels, c.height, c.width}));
  const auto weight =
      signed_values("weight", {c.channels, 1, c.kernel.h, c.kernel.w}).to(type).requires_grad_();
  const auto bias = c.bias ? leaf(signed_values("bias", {c.channels})) : at::Tensor();
  const int64_t stride[] = {c.stride.h, c.stride.w}, padding[] = {c.padding.h, c.padding.w},
                dilation[] = {c.dilation.h, c.dilation.w};
  const auto y = type == at::kFloat
                     ? conv2d(x, weight, bias, stride, padding, dilation, c.channels)
                     : at::conv2d(x, weight, bias, stride, padding, dilation, c.channels);
  y.backward(signed_values("gradient", y.sizes()).to(type));
  std::vector<at::Tensor> out{y.detach(), x.grad(), weight.grad()};
  if (c.bias) out.push_back(bias.grad());
  return out;
}

using DepthwiseParam = std::tuple<DepthwiseCase, at::MemoryFormat>;

class DepthwiseConv : public ::testing::TestWithParam<DepthwiseParam> {};

TEST_P(DepthwiseConv, IsTheConvolutionInDoublePrecision) {
  const auto& [c, format] = GetParam();
  const auto ours = convolve(c, at::kFloat, format);
  const auto expected = convolve(c, at::kDouble, at::MemoryFormat::Contiguous);
  ASSERT_EQ(ours.size(), expected.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_EQ(ours[i].sizes(), expected[i].sizes()) << i;
    EXPECT_TRUE(torch::allclose(ours[i].to(at::kDouble), expected[i], 1e-5, 2e-5)) << i;
  }
  EXPECT_TRUE(ours[0].is_contiguous(format));
  EXPECT_TRUE(ours[1].is_contiguous(format));
}

TEST_P(DepthwiseConv, DoesNotDependOnThreads) {
  const auto& [c, format] = GetParam();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = convolve(c, at::kFloat, format);
  at::set_num_threads(4);
  const auto together = convolve(c, at::kFloat, format);
  at::set_num_threads(threads);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(torch::equal(alone[i], together[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, DepthwiseConv,
    ::testing::Combine(
        ::testing::Values(
            DepthwiseCase{2, 5, 9, 13, 3, 1}, DepthwiseCase{1, 24, 16, 16, 3, 1, 1, 1, false},
            DepthwiseCase{2, 19, 8, 70, 5, 2},
            DepthwiseCase{1, 8, 12, 33, {1, 21}, {0, 10}},
            DepthwiseCase{1, 8, 33, 12, {21, 1}, {10, 0}}, DepthwiseCase{1, 17, 7, 7, 7, 3},
            DepthwiseCase{2, 6, 11, 14, 3, 1, 2}, DepthwiseCase{1, 9, 10, 9, 5, 2, {3, 2}},
            DepthwiseCase{1, 16, 12, 12, 2, 0, 2}, DepthwiseCase{1, 4, 20, 24, 3, 12, 1, 12},
            DepthwiseCase{1, 3, 9, 9, 3, {2, 4}, 2, {2, 4}, false},
            DepthwiseCase{2, 33, 1, 1, 3, 1}, DepthwiseCase{1, 2, 300, 200, 3, 1},
            DepthwiseCase{1, 12, 6, 40, 3, 0}, DepthwiseCase{1, 1, 8, 8, 1, 0, 2}),
        ::testing::Values(at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast)),
    [](const auto& test) {
      const bool rows = std::get<1>(test.param) == at::MemoryFormat::ChannelsLast;
      return "case" + std::to_string(test.index / 2) + (rows ? "_channels_last" : "_contiguous");
    });

TEST(DepthwiseConvolution, OfAFrozenLayerHasTheGradientOfItsInput) {
  const std::vector<int64_t> ones{1, 1};
  const auto x = signed_leaf("x", {1, 3, 6, 6});
  const auto weight = signed_values("weight", {3, 1, 3, 3}).to(at::kFloat);
  conv2d(x, weight, at::Tensor(), ones, ones, ones, 3).sum().backward();
  EXPECT_TRUE(
      torch::allclose(x.grad().select(2, 2).select(2, 2), weight.sum({1, 2, 3}), 1e-5, 1e-5));
  const auto bias = at::zeros({3}).requires_grad_();
  conv2d(x.detach(), weight, bias, ones, ones, ones, 3).sum().backward();
  EXPECT_TRUE(torch::allclose(bias.grad(), at::full({3}, 36.0F)));
}

TEST(DepthwiseConvolution, WithMorePaddingThanItsKernelReachesIsLibTorchs) {
  const auto x = signed_values("x", {1, 2, 5, 5}).to(at::kFloat);
  const auto weight = signed_values("weight", {2, 1, 3, 3}).to(at::kFloat);
  const std::vector<int64_t> ones{1, 1}, four{4, 4};
  EXPECT_TRUE(torch::equal(conv2d(x, weight, at::Tensor(), ones, four, ones, 2),
                           at::conv2d(x, weight, {}, ones, four, ones, 2)));
}

TEST(DepthwiseConvolution, OfALayerKeepsItsTypeUnderAutocast) {
  auto conv = std::make_shared<Conv2d>(ConvOptions{
      .in_channels = 4, .out_channels = 4, .kernel_size = 3, .padding = 1, .groups = 4});
  const auto x = signed_values("x", {2, 4, 8, 8}).to(at::kFloat);
  EXPECT_EQ(conv->forward(x).scalar_type(), at::kFloat);
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_EQ(conv->forward(x).scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace seg
