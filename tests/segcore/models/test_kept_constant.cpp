#include "segcore/models/nn/kept_constant.hpp"

#include <gtest/gtest.h>

#include "segcore/torch.hpp"

namespace seg {
namespace {

TEST(KeptConstantTest, IsMadeAgainForOtherValuesAndTypesAlone) {
  const KeptConstant kept;
  const auto first = kept.of({1, 2.5}, at::kFloat);
  EXPECT_TRUE(first.equal(at::tensor({1.0f, 2.5f})));
  EXPECT_TRUE(kept.of({1, 2.5}, at::kFloat).is_same(first));
  EXPECT_TRUE(kept.of({1, 3}, at::kFloat).equal(at::tensor({1.0f, 3.0f})));
  EXPECT_TRUE(kept.of({1, 3}, at::kLong).equal(at::tensor({1, 3}, at::kLong)));
  EXPECT_TRUE(kept.of({1, 2.5}, at::kFloat).is_same(first)) << "a recorded step may read it";
}

TEST(KeptConstantTest, OfATestServesTraining) {
  const KeptConstant kept;
  {
    const c10::InferenceMode test;
    kept.of({2}, at::kFloat);
  }
  const auto weight = at::ones({1}).requires_grad_();
  (weight * kept.of({2}, at::kFloat)).sum().backward();
  EXPECT_EQ(weight.grad().item<float>(), 2);
}

}  // namespace
}  // namespace seg
