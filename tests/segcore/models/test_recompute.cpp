// Recomputation in the backward pass: what it keeps of the graph.
#include <gtest/gtest.h>

#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg::recompute_test {

TEST(Recompute, KeepsTheWeightsInTheGraph) {
  // Whatever looks for the parameters of a loss, such as the reducer of several processes, must
  // find them; and a weight that two blocks share has one gradient.
  torch::manual_seed(0);
  const auto x = torch::randn({3, 4}).requires_grad_();
  const auto shared = torch::randn({4, 4}).requires_grad_(), frozen = torch::randn({4, 4});
  std::vector<std::vector<at::Tensor>> gradients;
  for (const bool again : {false, true}) {
    const auto block = [&](const at::Tensor& in) {
      const auto f = [&](const at::Tensor& t) {
        return at::linear(at::linear(t, shared), frozen).tanh();
      };
      return again ? recompute(f, in) : f(in);
    };
    gradients.push_back(torch::autograd::grad({block(block(x)).sum()}, {x, shared}));
  }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(torch::allclose(gradients[1][i], gradients[0][i], 1e-5, 1e-6)) << i;
  }
}

TEST(Recompute, AddsUpTheGradientsOfAWeightThatBlocksShare) {
  const auto x = torch::ones({1, 2}).requires_grad_();
  const auto weight = torch::ones({2, 2}).requires_grad_();
  const auto f = [&](const at::Tensor& t) { return at::linear(t, weight); };
  recompute(f, recompute(f, x)).sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad(), torch::full({2, 2}, 4.0)));
  EXPECT_TRUE(torch::equal(x.grad(), torch::full({1, 2}, 4.0)));
}

TEST(Recompute, IsPlainWithoutGradients) {
  const torch::NoGradGuard no_grad;
  const auto y = recompute([](const at::Tensor& t) { return t * 2; }, torch::ones({2}));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(torch::equal(y, torch::full({2}, 2.0)));
}

}  // namespace seg::recompute_test
