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

TEST(Recompute, KeepsNothingOfTheBlockButItsInput) {
  const auto x = torch::randn({3, 4}).requires_grad_();
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> inside;
  const auto y = recompute(
      [&inside](const at::Tensor& t) {
        const auto h = t.exp();
        inside.push_back(h.storage().getWeakStorageImpl());
        return h.tanh();
      },
      x);
  ASSERT_EQ(inside.size(), 1u);
  EXPECT_TRUE(inside[0].expired());
  y.sum().backward();
  EXPECT_EQ(inside.size(), 2u);  // the second pass
}

TEST(Recompute, DrawsTheSameNumbersAndLeavesTheGenerator) {
  const auto gradient = [](bool again) {
    torch::manual_seed(3);
    const auto x = torch::ones({64}).requires_grad_();
    const auto f = [](const at::Tensor& t) { return at::dropout(t * t, 0.5, true); };
    const auto y = again ? recompute(f, x) : f(x);
    const auto next = torch::rand({1});
    y.sum().backward();
    return std::vector{x.grad(), y.detach(), next, torch::rand({1})};
  };
  const auto plain = gradient(false), recomputed = gradient(true);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_TRUE(torch::equal(plain[i], recomputed[i])) << i;
  }
}

TEST(Recompute, KeepsAllOfABlockThatChangesItsInput) {
  const auto gradient = [](bool again) {
    const auto leaf = torch::arange(-4.0, 4.0).requires_grad_();
    const auto f = [](const at::Tensor& t) { return t.relu_().square(); };
    const auto x = leaf * 2;
    (again ? recompute(f, x) : f(x)).sum().backward();
    return leaf.grad();
  };
  EXPECT_TRUE(torch::equal(gradient(true), gradient(false)));
}

TEST(Recompute, TakesABlockWithinABlockWithIt) {
  int passes = 0;
  const auto x = torch::ones({2}).requires_grad_();
  const auto inner = [&passes](const at::Tensor& t) {
    ++passes;
    return t.exp();
  };
  recompute([&inner](const at::Tensor& t) { return recompute(inner, t).sin(); }, x)
      .sum()
      .backward();
  EXPECT_EQ(passes, 2);
  EXPECT_TRUE(torch::equal(x.grad(), x.detach().exp().cos() * x.detach().exp()));
}

TEST(Recompute, ServesTwoBackwardPassesOfOneGraph) {
  const auto x = torch::randn({4}).requires_grad_();
  const auto loss = recompute([](const at::Tensor& t) { return t.exp().tanh(); }, x).sum();
  const auto first = torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true);
  const auto second = torch::autograd::grad({loss}, {x});
  EXPECT_TRUE(torch::equal(first[0], second[0]));
}

TEST(Recompute, IsPlainWithoutGradients) {
  const torch::NoGradGuard no_grad;
  const auto y = recompute([](const at::Tensor& t) { return t * 2; }, torch::ones({2}));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(torch::equal(y, torch::full({2}, 2.0)));
}

}  // namespace seg::recompute_test
