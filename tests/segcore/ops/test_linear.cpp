#include "segcore/ops/linear/linear.hpp"

#include <gtest/gtest.h>

#include "segcore/precision.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

TEST(LinearOperator, IsLibTorchs) {
  for (const std::vector<int64_t>& rows :
       {std::vector<int64_t>{}, {3}, {50}, {2, 21}, {2, 5, 7, 1}}) {
    for (const bool with_bias : {true, false}) {
      auto shape = rows;
      shape.push_back(12);
      const auto x = signed_leaf("x", shape), weight = signed_leaf("weight", {20, 12});
      const auto bias = with_bias ? signed_leaf("bias", {20}) : at::Tensor();
      std::vector<at::Tensor> leaves{x, weight};
      if (with_bias) leaves.push_back(bias);
      const auto expected = at::linear(x, weight, bias), found = linear_rows(x, weight, bias);
      ASSERT_EQ(found.sizes(), expected.sizes());
      EXPECT_TRUE(found.is_contiguous());
      EXPECT_TRUE(torch::allclose(found, expected, 1e-5, 1e-6));
      const auto gradients = torch::autograd::grad({found.square().sum()}, leaves);
      const auto expected_gradients = torch::autograd::grad({expected.square().sum()}, leaves);
      for (size_t i = 0; i < leaves.size(); ++i) {
        EXPECT_TRUE(torch::allclose(gradients[i], expected_gradients[i], 1e-5, 1e-5)) << i;
      }
    }
  }
}

TEST(LinearOperator, TakesWhatIsNotContiguousAndOtherTypes) {
  const auto x = signed_leaf("x", {12, 40}).t(), weight = signed_leaf("weight", {20, 12});
  EXPECT_TRUE(
      torch::allclose(linear_rows(x, weight, at::Tensor()), at::linear(x, weight), 1e-5, 1e-6));
  EXPECT_EQ(linear_rows(x.to(at::kDouble), weight.to(at::kDouble), at::Tensor()).scalar_type(),
            at::kDouble);
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_EQ(linear_rows(x.contiguous(), weight, at::Tensor()).scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace seg
