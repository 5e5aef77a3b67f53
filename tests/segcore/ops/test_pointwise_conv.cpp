#include "segcore/ops/pointwise_conv/pointwise_conv.hpp"

#include <gtest/gtest.h>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/precision.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct PointwiseCase {
  int64_t images, in, out, height, width;
  bool bias = true;
};

std::ostream& operator<<(std::ostream& out, const PointwiseCase& c) {
  return out << c.images << "x" << c.in << "x" << c.height << "x" << c.width << " to " << c.out
             << (c.bias ? " with bias" : "");
}

at::Tensor leaf(const std::string& name, at::IntArrayRef shape) {
  const auto values = reference::uniform(name, c10::multiply_integers(shape)) - 0.5;
  return values.to(at::kFloat).reshape(shape).requires_grad_();
}

class PointwiseConv : public ::testing::TestWithParam<PointwiseCase> {};

TEST_P(PointwiseConv, IsTheConvolution) {
  const auto& c = GetParam();
  const auto gradient = leaf("gradient", {c.images, c.out, c.height, c.width}).detach();
  std::vector<std::vector<at::Tensor>> results;
  for (const bool ours : {true, false}) {
    const auto x = leaf("x", {c.images, c.in, c.height, c.width});
    const auto weight = leaf("weight", {c.out, c.in, 1, 1});
    const auto bias = c.bias ? leaf("bias", {c.out}) : at::Tensor();
    const auto y = ours ? pointwise_conv2d(x, weight, bias) : at::conv2d(x, weight, bias);
    y.backward(gradient);
    auto& found = results.emplace_back();
    found = {y, x.grad(), weight.grad()};
    if (c.bias) found.push_back(bias.grad());
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(torch::allclose(results[0][i], results[1][i], 1e-5, 1e-5)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PointwiseConv,
                         ::testing::Values(PointwiseCase{2, 5, 7, 6, 9},
                                           PointwiseCase{1, 32, 64, 4, 4, false},
                                           PointwiseCase{3, 16, 3, 11, 5, false},
                                           PointwiseCase{2, 4, 6, 1, 1}));

TEST(PointwiseConvolution, OfAFrozenLayerHasTheGradientOfItsInput) {
  const auto x = leaf("x", {2, 3, 8, 8});
  pointwise_conv2d(x, leaf("weight", {4, 3, 1, 1}).detach(), leaf("bias", {4}).detach())
      .sum()
      .backward();
  EXPECT_TRUE(x.grad().defined());
  const auto bias = leaf("bias", {4});
  pointwise_conv2d(x.detach(), leaf("weight", {4, 3, 1, 1}).detach(), bias).sum().backward();
  EXPECT_TRUE(torch::allclose(bias.grad(), at::full({4}, 128.0F)));
}

TEST(PointwiseConvolution, OfALayerKeepsItsTypeAndFormat) {
  auto conv = std::make_shared<Conv2d>(ConvOptions{.in_channels = 3, .out_channels = 4});
  const auto x = leaf("x", {2, 3, 8, 8}).detach();
  const auto last = x.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(conv->forward(last).is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(torch::allclose(conv->forward(last), conv->forward(x), 1e-5, 1e-6));
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_EQ(conv->forward(x).scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace seg
