#include "segcore/ops/conv2d/conv2d.hpp"

#include <gtest/gtest.h>

#include "segcore/models/nn/conv.hpp"
#include "segcore/precision.hpp"
#include "tests/segcore/ops/signed_values.hpp"

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

class PointwiseConv : public ::testing::TestWithParam<PointwiseCase> {};

TEST_P(PointwiseConv, IsTheConvolution) {
  const auto& c = GetParam();
  const auto gradient = signed_leaf("gradient", {c.images, c.out, c.height, c.width}).detach();
  std::vector<std::vector<at::Tensor>> results;
  for (const bool ours : {true, false}) {
    const auto x = signed_leaf("x", {c.images, c.in, c.height, c.width});
    const auto weight = signed_leaf("weight", {c.out, c.in, 1, 1});
    const auto bias = c.bias ? signed_leaf("bias", {c.out}) : at::Tensor();
    const auto y = ours ? conv2d(x, weight, bias) : at::conv2d(x, weight, bias);
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
  const auto x = signed_leaf("x", {2, 3, 8, 8});
  conv2d(x, signed_leaf("weight", {4, 3, 1, 1}).detach(), signed_leaf("bias", {4}).detach())
      .sum()
      .backward();
  EXPECT_TRUE(x.grad().defined());
  const auto bias = signed_leaf("bias", {4});
  conv2d(x.detach(), signed_leaf("weight", {4, 3, 1, 1}).detach(), bias).sum().backward();
  EXPECT_TRUE(torch::allclose(bias.grad(), at::full({4}, 128.0F)));
}

TEST(PointwiseConvolution, OfALayerKeepsItsTypeAndFormat) {
  auto conv = std::make_shared<Conv2d>(ConvOptions{.in_channels = 3, .out_channels = 4});
  const auto x = signed_leaf("x", {2, 3, 8, 8}).detach();
  const auto last = x.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(conv->forward(last).is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(torch::allclose(conv->forward(last), conv->forward(x), 1e-5, 1e-6));
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_EQ(conv->forward(x).scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace seg
