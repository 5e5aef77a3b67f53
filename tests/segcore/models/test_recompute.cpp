// Recomputation in the backward pass: what it keeps of the graph.
#include "segcore/models/nn/recompute.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "segcore/models/nn/recomputation_plan.hpp"
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

TEST(Recompute, LetsGoOfTheFirstGraphInTheSecondPass) {
  // As by a block that keeps a result for others: the new one replaces what held the graph.
  at::Tensor aside;
  const auto x = torch::ones({4}).requires_grad_();
  const auto f = [&aside](const at::Tensor& t) {
    aside = t.exp().tanh();
    return t.sin();
  };
  recompute(f, x).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), x.detach().cos()));
}

TEST(Recompute, BeginsAnewAfterASecondPassThatFailed) {
  int passes = 0;
  const auto x = torch::randn({4}).requires_grad_();
  const auto f = [&passes](const at::Tensor& t) {
    const auto h = t.exp();
    if (++passes == 2) throw std::runtime_error("no memory");
    return h.tanh();
  };
  const auto loss = recompute(f, x).sum();
  EXPECT_ANY_THROW(torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true));
  const auto found = torch::autograd::grad({loss}, {x});
  EXPECT_TRUE(torch::equal(found[0], torch::autograd::grad({x.exp().tanh().sum()}, {x})[0]));
}

// --- Costs --------------------------------------------------------------------------------------

using Block = std::function<at::Tensor(const at::Tensor&)>;

/// Of one block with an input of 1000 floats, which a plan recomputes.
BlockCost cost_of(const Block& block) {
  const torch::nn::Module model;
  RecomputationPlan plan(model);
  const auto x = torch::ones({1000}).requires_grad_();
  at::Tensor loss;
  {
    const FollowsPlan scope(plan);
    loss = run_block(/*with_cp=*/false, block, x * 1).sum();
  }
  loss.backward();
  return plan.costs().at(0);
}

TEST(BlockCost, IsOfWhatRecomputingLetsGo) {
  const auto table = torch::full({1000}, 2.0);
  EXPECT_EQ(cost_of([](const auto& t) { return t.exp().tanh(); }).bytes, 4000);
  EXPECT_EQ(cost_of([&](const auto& t) { return (t.exp() * table).tanh(); }).bytes, 4000);
  EXPECT_EQ(cost_of([&](const auto& t) { return (t.exp() * table.exp()).tanh(); }).bytes, 8000);
}

TEST(BlockCost, IsNoneOfABlockThatChangesItsInputAndIsNotHeld) {
  const torch::nn::Module model;
  RecomputationPlan plan(model);
  const FollowsPlan scope(plan);
  const auto x = torch::ones({1000}).requires_grad_();
  auto own = std::make_shared<int>();
  const std::weak_ptr<int> watched = own;
  const auto y = run_block(
      false,
      [own = std::move(own)](const at::Tensor& t) {
        auto changed = t;
        return changed.exp_().square();
      },
      x * 1);
  EXPECT_TRUE(watched.expired());
  y.sum().backward();
  EXPECT_EQ(plan.costs().at(0).bytes, 0);
  EXPECT_EQ(plan.costs().at(0).seconds, 0);
}

TEST(BlockCost, HasNothingOfWhatWithCpRecomputesInAnyCase) {
  const auto inner = [](const at::Tensor& t) { return t.exp().tanh(); };
  EXPECT_EQ(cost_of([&](const auto& t) { return recompute(inner, t); }).bytes, 0);
  // That keeps its input, which comes from around it.
  EXPECT_EQ(cost_of([&](const auto& t) { return recompute(inner, t.exp()).tanh(); }).bytes, 4000);
}

TEST(RecomputationPlan, RunsTheBlocksTwiceThatItDoesNotKeep) {
  const torch::nn::Module model;
  RecomputationPlan plan(model);
  plan.follow({true, false, true});
  std::vector<int> passes(4);
  auto x = torch::ones({4}).requires_grad_();
  {
    const FollowsPlan scope(plan);
    for (int& count : passes) {
      x = run_block(
          false,
          [&count](const at::Tensor& t) {
            ++count;
            return t.exp().tanh();
          },
          x);
    }
  }
  x.sum().backward();
  EXPECT_EQ(passes, (std::vector<int>{1, 2, 1, 2}));
}

TEST(Recompute, IsPlainWithoutGradients) {
  const torch::NoGradGuard no_grad;
  const auto y = recompute([](const at::Tensor& t) { return t * 2; }, torch::ones({2}));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(torch::equal(y, torch::full({2}, 2.0)));
}

}  // namespace seg::recompute_test
