#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runners/optim/optimizer.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using Json = nlohmann::json;

Json optim_reference(const std::string& name) {
  return Json::parse(std::ifstream(source_path("tests/data/optim/" + name)));
}

at::Tensor signed_uniform(const std::string& name, at::IntArrayRef shape) {
  return (reference::uniform(name, c10::multiply_integers(shape)) * 2 - 1).reshape(shape);
}

const std::vector<std::pair<std::string, std::vector<int64_t>>> kShapes{
    {"a.weight", {3, 4}}, {"a.bias", {3}}, {"b.weight", {2, 3, 2, 2}}};

ParamGroup toy_group(at::ScalarType type = at::kDouble) {
  ParamGroup group;
  for (const auto& [name, shape] : kShapes) {
    group.params.push_back(signed_uniform(name, shape).to(type).set_requires_grad(true));
    group.names.push_back(name);
  }
  return group;
}

/// Step k of the references; a.bias gets no gradient in the second.
void toy_step(Optimizer& optimizer, int k, const at::Tensor& found_inf = {}) {
  const auto& params = optimizer.groups()[0].params;
  for (size_t i = 0; i < kShapes.size(); ++i) {
    const auto& [name, shape] = kShapes[i];
    at::Tensor grad = signed_uniform(text(name, ".grad", k), shape) * (k + 1);
    at::Tensor param = params[i];
    param.mutable_grad() = grad.to(param.scalar_type());
    if (k == 1 && name == "a.bias") param.mutable_grad().reset();
  }
  optimizer.step(found_inf);
}

void expect_values(const at::Tensor& found, const Json& expected, double tolerance) {
  const auto values = expected.get<std::vector<double>>();
  ASSERT_EQ(found.numel(), static_cast<int64_t>(values.size()));
  const at::Tensor want = torch::tensor(values, at::kDouble);
  EXPECT_LE((found.detach().to(at::kDouble).flatten() - want).abs().max().item<double>(),
            tolerance);
}

TEST(Optimizers, StepsAndStatesAreThoseOfTorch) {
  const Json cases = optim_reference("optimizers.json");
  for (const auto& [config, expected] : cases.items()) {
    SCOPED_TRACE(config);
    auto optimizer = Spec<Optimizer>::of(config).build();
    optimizer->add_group(toy_group());
    for (int k = 0; k < 6; ++k) toy_step(*optimizer, k);
    for (size_t i = 0; i < kShapes.size(); ++i) {
      expect_values(optimizer->groups()[0].params[i], expected["params"][i], 1e-12);
    }
    const Value state = optimizer->state_dict();
    const ValueDict& entries = state.at("state").as_dict();
    ASSERT_EQ(entries.size(), expected["state"].size());
    for (const auto& [index, entry] : entries) {
      const Json& want = expected["state"][std::to_string(index.as_int())];
      ASSERT_EQ(entry.as_dict().size(), want.size());
      for (const auto& [name, tensor] : entry.as_dict()) {
        ASSERT_TRUE(want.contains(name.as_string())) << name.as_string();
        expect_values(tensor.as_tensor(), want[name.as_string()], 1e-12);
      }
    }
  }
}

TEST(Optimizers, GroupsHaveTheKeysOfTorch) {
  auto optimizer = Spec<Optimizer>::of("{type: AdamW, lr: 0.01}").build();
  optimizer->add_group(toy_group());
  const Value state = optimizer->state_dict();
  const ValueList& groups = state.at("param_groups").as_list();
  ASSERT_EQ(groups.size(), 1u);
  std::vector<std::string> keys;
  for (const auto& [key, value] : groups[0].as_dict()) keys.push_back(key.as_string());
  EXPECT_EQ(join(keys, " "),
            "lr betas eps weight_decay amsgrad maximize foreach capturable differentiable fused "
            "decoupled_weight_decay params");
  EXPECT_TRUE(groups[0].at("betas").is_tuple());
  EXPECT_TRUE(groups[0].at("foreach").is_none());
  EXPECT_EQ(groups[0].at("params").as_list().size(), 3u);
}

TEST(Optimizers, ContinueFromASavedStateAsIfNeverStopped) {
  for (const std::string config : {"{type: AdamW, lr: 0.01, amsgrad: true}",
                                   "{type: SGD, lr: 0.1, momentum: 0.9, dampening: 0.1}"}) {
    SCOPED_TRACE(config);
    auto whole = Spec<Optimizer>::of(config).build(), first = Spec<Optimizer>::of(config).build();
    whole->add_group(toy_group(at::kFloat));
    first->add_group(toy_group(at::kFloat));
    for (int k = 0; k < 3; ++k) {
      toy_step(*whole, k);
      toy_step(*first, k);
    }
    const Value state = first->state_dict();
    auto second = Spec<Optimizer>::of(config).build();
    ParamGroup group;
    for (const auto& p : first->groups()[0].params) {
      group.params.push_back(p.detach().clone().set_requires_grad(true));
    }
    second->add_group(std::move(group));
    second->load_state_dict(state);
    for (int k = 3; k < 6; ++k) {
      toy_step(*whole, k);
      toy_step(*second, k);
    }
    for (size_t i = 0; i < kShapes.size(); ++i) {
      EXPECT_TRUE(torch::equal(whole->groups()[0].params[i], second->groups()[0].params[i]));
    }
  }
}

TEST(Optimizers, AStepThatOverflowedChangesNothing) {
  for (const std::string config :
       {"{type: AdamW, lr: 0.01}", "{type: SGD, lr: 0.1, momentum: 0.9}",
        "{type: SGD, lr: 0.1, momentum: 0.9, dampening: 0.5}", "{type: SGD, lr: 0.1}"}) {
    SCOPED_TRACE(config);
    auto with = Spec<Optimizer>::of(config).build(), without = Spec<Optimizer>::of(config).build();
    with->add_group(toy_group(at::kFloat));
    without->add_group(toy_group(at::kFloat));
    // The overflow is in the first step, when states are made.
    toy_step(*with, 0, torch::ones({}));
    EXPECT_TRUE(torch::equal(with->groups()[0].params[0], without->groups()[0].params[0]));
    for (int k = 0; k < 3; ++k) {
      toy_step(*with, k, torch::zeros({}));
      toy_step(*without, k);
    }
    for (size_t i = 0; i < kShapes.size(); ++i) {
      EXPECT_TRUE(torch::equal(with->groups()[0].params[i], without->groups()[0].params[i]));
    }
  }
}

TEST(Optimizers, GradientsOfAnyMemoryLayoutAreUsedCorrectly) {
  for (const bool strange : {false, true}) {
    auto optimizer = Spec<Optimizer>::of("{type: SGD, lr: 1.0}").build();
    ParamGroup group;
    group.params = {torch::zeros({2, 3}).set_requires_grad(true)};
    optimizer->add_group(std::move(group));
    const at::Tensor grad = torch::arange(6, torch::kFloat).reshape({2, 3});
    optimizer->groups()[0].params[0].mutable_grad() = strange ? grad.t().contiguous().t() : grad;
    optimizer->step();
    EXPECT_TRUE(torch::equal(optimizer->groups()[0].params[0], -grad));
  }
}

TEST(Optimizers, ZeroGradFreesOrFills) {
  auto optimizer = Spec<Optimizer>::of("{type: SGD, lr: 1.0}").build();
  optimizer->add_group(toy_group());
  toy_step(*optimizer, 0);
  const at::Tensor grad = optimizer->groups()[0].params[0].grad();
  optimizer->zero_grad(/*set_to_none=*/false);
  EXPECT_EQ(grad.abs().sum().item<double>(), 0);
  EXPECT_TRUE(optimizer->groups()[0].params[0].grad().defined());
  optimizer->zero_grad();
  EXPECT_FALSE(optimizer->groups()[0].params[0].grad().defined());
}

template <class F>
std::string checkpoint_error(F&& f) {
  try {
    f();
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Optimizers, ReportStatesThatDoNotFit) {
  auto optimizer = Spec<Optimizer>::of("{type: AdamW}").build();
  optimizer->add_group(toy_group());
  toy_step(*optimizer, 0);
  Value state = optimizer->state_dict();

  auto two = Spec<Optimizer>::of("{type: AdamW}").build();
  two->add_group(toy_group());
  two->add_group(toy_group());
  EXPECT_EQ(checkpoint_error([&] { two->load_state_dict(state); }),
            "the optimizer's state has 1 parameter groups, the optimizer of this config has 2: was "
            "it saved with another paramwise_cfg?");

  auto fewer = Spec<Optimizer>::of("{type: AdamW}").build();
  ParamGroup group = toy_group();
  group.params.pop_back();
  fewer->add_group(std::move(group));
  EXPECT_EQ(checkpoint_error([&] { fewer->load_state_dict(state); }),
            "parameter group 0 of the optimizer's state has 3 parameters, that of this config has "
            "2");

  auto other = Spec<Optimizer>::of("{type: AdamW}").build();
  ParamGroup wider = toy_group();
  wider.params[1] = torch::zeros({5});
  other->add_group(std::move(wider));
  EXPECT_EQ(checkpoint_error([&] { other->load_state_dict(state); }),
            "the optimizer's 'exp_avg' of a.bias has shape [3], the parameter has [5]");

  const std::string another =
      ", which this config's optimizer does not use: was it saved with another optimizer? Give the "
      "checkpoint as load_from to start from its weights";
  auto sgd = Spec<Optimizer>::of("{type: SGD, momentum: 0.9}").build();
  sgd->add_group(toy_group());
  EXPECT_EQ(checkpoint_error([&] { sgd->load_state_dict(state); }),
            "the optimizer's state holds exp_avg, exp_avg_sq, step" + another);
  toy_step(*sgd, 0);
  EXPECT_EQ(checkpoint_error([&] { optimizer->load_state_dict(sgd->state_dict()); }),
            "the optimizer's state holds momentum_buffer" + another);
}

TEST(Optimizers, ReportConfigErrors) {
  EXPECT_EQ(test::spec_error<Optimizer>("{type: SGD, lr: 0.1, nesterov: true}"),
            "<default>:1:32: error: nesterov: needs a momentum above 0 and no dampening\n"
            "1 error in the configuration");
  EXPECT_EQ(test::spec_error<Optimizer>("{type: AdamW, betas: [0.9, 1.5]}"),
            "<default>:1:22: error: betas: must be between 0 and 1, got 1.5\n"
            "1 error in the configuration");
}

}  // namespace
}  // namespace seg
