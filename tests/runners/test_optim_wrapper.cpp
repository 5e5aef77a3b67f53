#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runners/optim/optim_wrapper.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using Json = nlohmann::json;

Json wrapper_reference(const std::string& name) {
  return Json::parse(std::ifstream(source_path("tests/data/optim/" + name)));
}

at::Tensor toy_tensor(const std::string& name, at::IntArrayRef shape) {
  return (reference::uniform(name, c10::multiply_integers(shape)) * 2 - 1).reshape(shape);
}

/// Backward pass and update of one step. \return whether the parameters were updated.
bool update(OptimWrapper& wrapper, const at::Tensor& loss) {
  wrapper.scale_loss(loss).backward();
  return wrapper.step();
}

/// One linear map and the mean square of what it gives.
struct LineToy : torch::nn::Module {
  explicit LineToy(at::ScalarType type = at::kDouble) {
    p = register_parameter("p", toy_tensor("a.weight", {3, 4}).to(type));
    q = register_parameter("q", toy_tensor("a.bias", {3}).to(type));
  }
  at::Tensor loss(int k) {
    const at::Tensor x = toy_tensor(text("x", k), {5, 4}).to(p.scalar_type());
    return (x.matmul(p.t()) + q).pow(2).mean();
  }
  at::Tensor p, q;
};

/// The layers that the references of parameter groups were made with.
struct BlockToy : torch::nn::Module {
  BlockToy() {
    register_parameter("pos_embed", torch::zeros({1, 2, 4}));
    register_module("conv", std::make_shared<Conv2d>(ConvOptions{4, 4, 3}));
    register_module("norm1", Spec<Norm>::of("{type: BN}").build(4));
    ConvOptions depthwise{4, 4, 3};
    depthwise.groups = 4;
    register_module("dw", std::make_shared<Conv2d>(depthwise));
    auto frozen = register_module("frozen", std::make_shared<Linear>(4, 4));
    for (auto& p : frozen->parameters()) p.set_requires_grad(false);
  }
};
struct HeadToy : torch::nn::Module {
  HeadToy() {
    register_module("norm", Spec<Norm>::of("{type: LN}").build(4));
    register_module("fc", std::make_shared<Linear>(4, 2));
  }
};
struct ModelToy : torch::nn::Module {
  ModelToy() {
    register_parameter("scale", torch::zeros({4}));
    register_module("backbone", std::make_shared<BlockToy>());
    register_module("decode_head", std::make_shared<HeadToy>());
  }
};

TEST(OptimWrapper, ClipsAndAccumulatesLikeMmengine) {
  const Json cases = wrapper_reference("wrappers.json");
  for (const auto& [name, rows] : cases.items()) {
    SCOPED_TRACE(name);
    const size_t slash = name.rfind('/');
    LineToy model;
    auto wrapper =
        Spec<OptimWrapper>::of(
            "{type: OptimWrapper, optimizer: {type: SGD, lr: 0.1, momentum: 0.9}, "
            "clip_grad: " +
            name.substr(0, slash) + ", accumulative_counts: " + name.substr(slash + 1) + "}")
            .build(model);
    wrapper->set_progress(0, 7);
    for (int k = 0; k < 7; ++k) {
      const bool due = wrapper->will_update();
      EXPECT_EQ(update(*wrapper, model.loss(k)), due);
      const auto want = rows[k]["params"].get<std::vector<double>>();
      const at::Tensor found = torch::cat({model.p.flatten(), model.q}).detach();
      const double error = (found - torch::tensor(want, at::kDouble)).abs().max().item<double>();
      EXPECT_LE(error, 1e-12) << "step " << k;
      ASSERT_EQ(wrapper->grad_norm().defined(), !rows[k]["grad_norm"].is_null());
      if (wrapper->grad_norm().defined()) {
        EXPECT_NEAR(wrapper->grad_norm().item<double>(), rows[k]["grad_norm"].get<double>(), 1e-12);
      }
    }
  }
}

/// A toy, its wrapper, and how many steps they have done of a run of eight.
struct ResumableToy {
  explicit ResumableToy(const std::string& type, int counts = 3)
      : wrapper(Spec<OptimWrapper>::of("{type: " + type +
                                       ", optimizer: {type: SGD, lr: 0.1, momentum: 0.9}, "
                                       "clip_grad: {max_norm: 0.5}, accumulative_counts: " +
                                       std::to_string(counts) + "}")
                    .build(model)) {
    wrapper->set_progress(0, 8);
  }
  void train(int from, int to) {
    for (int k = from; k < to; ++k) update(*wrapper, model.loss(k));
  }
  /// Continues after `done` steps of another one.
  void resume(const ResumableToy& other, int done) {
    const torch::NoGradGuard no_grad;
    model.p.copy_(other.model.p);
    model.q.copy_(other.model.q);
    wrapper->load_state_dict(other.wrapper->state_dict());
    wrapper->set_progress(done, 8, other.wrapper->accumulated());
  }
  at::Tensor weights() const { return torch::cat({model.p.flatten(), model.q}).detach(); }
  LineToy model{at::kFloat};
  std::unique_ptr<OptimWrapper> wrapper;
};

constexpr const char* kScaledToy =
    "AmpOptimWrapper, dtype: float32, loss_scale: {init_scale: 1024, growth_interval: 1}";

TEST(OptimWrapper, ResumesInTheMiddleOfAnAccumulationBitForBit) {
  for (const std::string type : {"OptimWrapper", kScaledToy}) {
    ResumableToy whole(type);
    whole.train(0, 8);
    for (int done = 1; done < 8; ++done) {
      SCOPED_TRACE(type + " after step " + std::to_string(done));
      ResumableToy first(type), second(type);
      first.train(0, done);
      EXPECT_EQ(first.wrapper->accumulated().is_none(), done % 3 == 0);
      second.resume(first, done);
      second.train(done, 8);
      EXPECT_TRUE(torch::equal(second.weights(), whole.weights()));
      EXPECT_TRUE(second.wrapper->accumulated().is_none()) << "the last step is an update";
    }
  }
}

TEST(OptimWrapper, AccumulatedGradientsFollowTheScaleAndTheNumberOfSteps) {
  // One step of a scaled loss over five, taken over by a run that does not scale and divides by 3.
  ResumableToy first(kScaledToy, 5), second("OptimWrapper", 3);
  first.train(0, 1);
  second.resume(first, 1);
  at::Tensor expected = torch::autograd::grad({second.model.loss(0)}, {second.model.p})[0] / 3;
  EXPECT_TRUE(torch::allclose(second.model.p.grad(), expected, 1e-5, 1e-7));
}

TEST(OptimWrapper, ReportsLostAccumulatedGradients) {
  const auto messages = [](int done, const Value& accumulated) {
    ResumableToy toy("OptimWrapper");
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    toy.wrapper->set_progress(done, 8, accumulated);
    return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  };
  ResumableToy toy("OptimWrapper");
  toy.train(0, 1);
  const Value one = toy.wrapper->accumulated();
  EXPECT_THAT(messages(5, {}),
              ::testing::HasSubstr("the run starts at step 5, after 2 of 3 accumulated steps, and "
                                   "the checkpoint holds the gradients of 0 steps: gradients are "
                                   "lost"));
  EXPECT_THAT(messages(6, one),
              ::testing::HasSubstr("the run starts at step 6, after 0 of 3 accumulated steps, and "
                                   "the checkpoint holds the gradients of 1 step: gradients are "
                                   "lost"));
  EXPECT_EQ(messages(7, one), "");
  EXPECT_EQ(messages(6, {}), "");
  EXPECT_EQ(messages(8, {}), "") << "nothing is left to do";

  Value foreign = Value::dict(), gradients = Value::dict();
  gradients.set("p", torch::zeros({3, 5}));
  foreign.set("steps", 1);
  foreign.set("loss_weight", 1.0);
  foreign.set("gradients", gradients);
  try {
    toy.wrapper->set_progress(4, 8, foreign);
    FAIL();
  } catch (const CheckpointError& e) {
    EXPECT_STREQ(e.what(), "the accumulated gradient of p has shape [3, 5], the model has [3, 4]");
  }
}

TEST(ParamGroups, AreThoseOfMmengine) {
  for (const Json& c : wrapper_reference("groups.json")) {
    const std::string cfg = c["cfg"];
    SCOPED_TRACE(cfg);
    ModelToy model;
    auto wrapper = Spec<OptimWrapper>::of(
                       "{type: OptimWrapper, optimizer: {type: AdamW, lr: 0.01, weight_decay: "
                       "0.1}, paramwise_cfg: " +
                       cfg + "}")
                       .build(model);
    const auto& groups = wrapper->optimizer().groups();
    ASSERT_EQ(groups.size(), c["groups"].size());
    for (size_t g = 0; g < groups.size(); ++g) {
      const Json& want = c["groups"][g];
      EXPECT_EQ(groups[g].names, want[0].get<std::vector<std::string>>());
      EXPECT_DOUBLE_EQ(groups[g].hyper->lr, want[1].get<double>()) << groups[g].names[0];
      EXPECT_DOUBLE_EQ(groups[g].hyper->weight_decay, want[2].get<double>()) << groups[g].names[0];
      std::vector<std::string> keys;
      const Value options = groups[g].options();
      for (const auto& [key, value] : options.as_dict()) keys.push_back(key.as_string());
      std::sort(keys.begin(), keys.end());
      EXPECT_EQ(keys, want[3].get<std::vector<std::string>>());
    }
    EXPECT_EQ(wrapper->state_dict().find("base_param_settings") != nullptr, groups.size() > 1);
    EXPECT_EQ(wrapper->learning_rates().size(), groups.size() > 1 ? 2u : 1u);
  }
}

TEST(ParamGroups, AKeyThatFitsNothingIsAWarningWithTheNearestName) {
  ModelToy model;
  const auto spec = Spec<OptimWrapper>::of(
      "{type: OptimWrapper, optimizer: {type: AdamW}, "
      "paramwise_cfg: {custom_keys: {decode_haed: {lr_mult: 10}}}}");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  spec.build(model);
  const std::string log =
      ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, ::testing::HasSubstr(
                       "paramwise_cfg.custom_keys: 'decode_haed' is part of no parameter's name, "
                       "or of names that longer keys take. Did you mean 'decode_head'?"));
}

TEST(ParamGroups, KeysThatConfigsListForAnyModelGiveNoWarning) {
  ModelToy model;
  const auto spec = Spec<OptimWrapper>::of(
      "{type: OptimWrapper, optimizer: {type: AdamW}, paramwise_cfg: {custom_keys: {pos_block: "
      "{decay_mult: 0}, absolute_pos_embed: {decay_mult: 0}}}}");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  spec.build(model);
  const std::string log =
      ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, ::testing::HasSubstr("INFO"));
  EXPECT_THAT(log,
              ::testing::HasSubstr(
                  "paramwise_cfg.custom_keys: the model has no absolute_pos_embed, pos_block"));
  EXPECT_THAT(log, ::testing::Not(::testing::HasSubstr("WARN")));
}

TEST(ParamGroups, OptionsOfAnotherConstructorAreAnError) {
  ModelToy model;
  const auto spec = Spec<OptimWrapper>::of(
      "{type: OptimWrapper, optimizer: {type: AdamW}, paramwise_cfg: {num_layers: 12}}");
  EXPECT_THAT(test::config_error([&] { spec.build(model); }),
              ::testing::HasSubstr("paramwise_cfg: num_layers, decay_rate, layer_decay_rate and "
                                   "decay_type need constructor: "
                                   "LearningRateDecayOptimizerConstructor"));
  EXPECT_THAT(test::spec_error<OptimWrapper>(
                  "{type: OptimWrapper, optimizer: {type: AdamW}, constructor: DefaultOptim}"),
              ::testing::HasSubstr("DefaultOptim"));
}

/// Tokens, patches and two blocks.
struct LayeredBackbone : Backbone {
  LayeredBackbone() {
    register_parameter("cls_token", torch::zeros({1, 1, 4}));
    register_module("patch_embed", std::make_shared<Linear>(4, 4));
    auto layers = std::make_shared<ListOf<Linear>>();
    layers->push_back(std::make_shared<Linear>(4, 4));
    layers->push_back(std::make_shared<Linear>(4, 4));
    register_module("layers", layers);
  }
  std::vector<torch::Tensor> forward(const torch::Tensor& x) override { return {x}; }
  std::vector<FeatureInfo> features() const override { return {}; }
  LayerOrder layer_order() const override { return LayerOrder(stages); }
  std::vector<std::string> python_names() const override { return {"BEiT"}; }
  std::vector<StageNames> stages{
      {.embedding = {"cls_token", "patch_embed."}, .blocks = "layers.", .num_blocks = 2}};
};
struct LayeredToy : torch::nn::Module {
  LayeredToy() {
    backbone = register_module("backbone", std::make_shared<LayeredBackbone>());
    register_module("decode_head", std::make_shared<Linear>(4, 2));
  }
  std::shared_ptr<LayeredBackbone> backbone;
};

std::unique_ptr<OptimWrapper> layered_wrapper(torch::nn::Module& model, const std::string& cfg) {
  return Spec<OptimWrapper>::of(
             "{type: OptimWrapper, optimizer: {type: AdamW, lr: 1.0, weight_decay: 0.1}, "
             "constructor: LearningRateDecayOptimizerConstructor, paramwise_cfg: " +
             cfg + "}")
      .build(model);
}

/// Learning rate and weight decay of each parameter.
std::map<std::string, std::pair<double, double>> rates_by_name(const OptimWrapper& wrapper) {
  std::map<std::string, std::pair<double, double>> out;
  for (const auto& group : wrapper.optimizer().groups()) {
    for (const auto& name : group.names) {
      out[name] = {group.hyper->lr, group.hyper->weight_decay};
    }
  }
  return out;
}

TEST(ParamGroups, RatesShrinkTowardsTheInput) {
  // Four steps of layers: tokens and patches 0, layers 1 and 2, all else 3.
  const std::map<std::string, std::pair<double, double>> want{
      {"backbone.cls_token", {0.125, 0.1}},
      {"backbone.patch_embed.weight", {0.125, 0.1}},
      {"backbone.patch_embed.bias", {0.125, 0.0}},
      {"backbone.layers.0.weight", {0.25, 0.1}},
      {"backbone.layers.0.bias", {0.25, 0.0}},
      {"backbone.layers.1.weight", {0.5, 0.1}},
      {"backbone.layers.1.bias", {0.5, 0.0}},
      {"decode_head.weight", {1.0, 0.1}},
      {"decode_head.bias", {1.0, 0.0}}};
  LayeredToy model;
  EXPECT_EQ(rates_by_name(*layered_wrapper(
                model, "{num_layers: 2, decay_rate: 0.5, decay_type: layer_wise}")),
            want);
  EXPECT_EQ(rates_by_name(*layered_wrapper(model, "{decay_rate: 0.5}")), want)
      << "as many layers as the backbone has";
}

TEST(ParamGroups, RatesShrinkStageByStage) {
  LayeredToy model;
  model.backbone->stages = {
      {.embedding = {"cls_token", "patch_embed."}, .blocks = "layers.0.", .num_blocks = 1},
      {.embedding = {}, .blocks = "layers.1.", .num_blocks = 1}};
  // As the published configs of ConvNeXt have it, num_layers counts layers and not stages.
  const auto found = rates_by_name(
      *layered_wrapper(model, "{num_layers: 4, decay_rate: 0.5, decay_type: stage_wise}"));
  EXPECT_EQ(found.at("backbone.cls_token").first, 0.03125);
  EXPECT_EQ(found.at("backbone.layers.0.weight").first, 0.0625);
  EXPECT_EQ(found.at("backbone.layers.1.weight").first, 0.125);
  EXPECT_EQ(found.at("decode_head.weight").first, 1.0);
}

TEST(ParamGroups, ANumberOfLayersThatTheBackboneDoesNotHaveIsAWarning) {
  LayeredToy model;
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  layered_wrapper(model, "{num_layers: 12, decay_rate: 0.5}");
  const std::string logged =
      ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(logged, ::testing::HasSubstr("paramwise_cfg.num_layers is 12, BEiT has 2 layers: "
                                           "leave it out to take as many as it has"));
}

TEST(ParamGroups, BackbonesWithoutLayersAreAnError) {
  const auto error = [](LayeredToy& model, const std::string& cfg) {
    return test::config_error([&] { layered_wrapper(model, cfg); });
  };
  LayeredToy model;
  EXPECT_THAT(error(model, "{decay_rate: 0.5, decay_type: stage_wise}"),
              ::testing::HasSubstr("paramwise_cfg: decay_type stage_wise does not fit the backbone "
                                   "BEiT: it defines no stages"));
  model.backbone->stages.clear();
  EXPECT_THAT(error(model, "{decay_rate: 0.5}"),
              ::testing::HasSubstr("paramwise_cfg: decay_type layer_wise does not fit the backbone "
                                   "BEiT: it defines no layers"));
  EXPECT_THAT(error(model, "{num_layers: 2}"),
              ::testing::HasSubstr("paramwise_cfg: decay_rate is needed"));
}

TEST(AmpOptimWrapper, RunsTheForwardPassInBfloat16OnTheCpu) {
  LineToy model(at::kFloat);
  auto wrapper = Spec<OptimWrapper>::of("{type: AmpOptimWrapper, optimizer: {type: SGD, lr: 0.1}}")
                     .build(model);
  const at::Tensor x = torch::ones({5, 4});
  {
    const auto precision = wrapper->precision();
    ASSERT_TRUE(precision);
    EXPECT_EQ(torch::linear(x, model.p, model.q).scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(torch::linear(x, model.p, model.q).scalar_type(), at::kFloat);
  const at::Tensor before = model.p.detach().clone();
  {
    const auto precision = wrapper->precision();
    update(*wrapper, torch::linear(x, model.p, model.q).to(at::kFloat).pow(2).mean());
  }
  EXPECT_FALSE(torch::equal(before, model.p));
  EXPECT_EQ(model.p.scalar_type(), at::kFloat);
  const Value state = wrapper->state_dict();
  EXPECT_EQ(state.at("loss_scaler").at("scale").as_float(), 65536);
  EXPECT_EQ(state.at("loss_scaler").at("growth_interval").as_int(), 2000);
  wrapper->load_state_dict(state);
}

TEST(AmpOptimWrapper, LeavesOutStepsThatOverflowAndMovesTheScale) {
  LineToy model(at::kFloat), plain(at::kFloat);
  const std::string optimizer =
      "optimizer: {type: SGD, lr: 0.1, momentum: 0.9}, clip_grad: "
      "{max_norm: 0.5}";
  auto scaled = Spec<OptimWrapper>::of(
                    "{type: AmpOptimWrapper, dtype: float32, loss_scale: "
                    "{init_scale: 1024, growth_interval: 2}, " +
                    optimizer + "}")
                    .build(model);
  auto unscaled = Spec<OptimWrapper>::of("{type: OptimWrapper, " + optimizer + "}").build(plain);
  const auto scale = [&] { return scaled->state_dict().at("loss_scaler").at("scale").as_float(); };
  for (int k = 0; k < 2; ++k) {
    update(*scaled, model.loss(k));
    update(*unscaled, plain.loss(k));
    EXPECT_FLOAT_EQ(scaled->grad_norm().item<float>(), unscaled->grad_norm().item<float>());
  }
  EXPECT_EQ(scale(), 2048);  // after two finite steps
  EXPECT_TRUE(torch::allclose(model.p, plain.p, 1e-6, 1e-7));
  const at::Tensor before = model.p.detach().clone();
  update(*scaled, model.loss(2) * std::numeric_limits<float>::infinity());
  EXPECT_EQ(scale(), 1024);
  EXPECT_TRUE(torch::equal(before, model.p));
  update(*scaled, model.loss(3));
  update(*unscaled, plain.loss(3));
  EXPECT_TRUE(torch::allclose(model.p, plain.p, 1e-6, 1e-7));

  // The scale and its count of finite steps continue where they were.
  LineToy other(at::kFloat);
  auto resumed = Spec<OptimWrapper>::of(
                     "{type: AmpOptimWrapper, dtype: float32, loss_scale: "
                     "{init_scale: 4, growth_interval: 2}, " +
                     optimizer + "}")
                     .build(other);
  resumed->load_state_dict(scaled->state_dict());
  const Value state = resumed->state_dict();
  EXPECT_EQ(state.at("loss_scaler").at("scale").as_float(), 1024);
  EXPECT_EQ(state.at("loss_scaler").at("_growth_tracker").as_int(), 1);
}

TEST(AmpOptimWrapper, Float32IsNoMixedPrecision) {
  LineToy model(at::kFloat);
  auto wrapper =
      Spec<OptimWrapper>::of("{type: AmpOptimWrapper, optimizer: {type: SGD}, dtype: float32}")
          .build(model);
  const auto precision = wrapper->precision();
  EXPECT_EQ(torch::linear(torch::ones({5, 4}), model.p).scalar_type(), at::kFloat);
}

TEST(OptimWrapper, ReportsConfigErrors) {
  const auto error = [](const std::string& rest) {
    return test::spec_error<OptimWrapper>("{type: AmpOptimWrapper, optimizer: {type: SGD}, " +
                                          rest + "}");
  };
  EXPECT_EQ(error("loss_scale: static"),
            "<default>:1:61: error: loss_scale: expected 'dynamic', a number or a mapping, got "
            "'static'\n1 error in the configuration");
  EXPECT_EQ(error("clip_grad: {max_norm: 1, clip_value: 1}"),
            "<default>:1:86: error: clip_grad.clip_value: either max_norm or clip_value, not both\n"
            "1 error in the configuration");
  EXPECT_EQ(error("clip_grad: {norm_type: 2}"),
            "<default>:1:60: error: clip_grad.max_norm: needs max_norm or clip_value\n"
            "1 error in the configuration");
  EXPECT_EQ(error("accumulative_counts: 0"),
            "<default>:1:70: error: accumulative_counts: must be at least 1, got 0\n"
            "1 error in the configuration");
}

}  // namespace
}  // namespace seg
