/// What MMEngine registers: each name is either built, with MMEngine's numbers, or refused with a
/// reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "registry/left_out.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/optim/param_scheduler.hpp"
#include "runners/start/parts.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json mmengine_reference(const std::string& name) {
  return Json::parse(std::ifstream(source_path("tests/data/optim/" + name)));
}

at::Tensor sines(const std::vector<int64_t>& shape, double step, double begin) {
  const int64_t n = c10::multiply_integers(shape);
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(std::sin(step * static_cast<double>(i) + begin));
  return torch::tensor(values, at::kDouble).reshape(shape);
}

bool is_sparse(const std::string& config) { return config.find("SparseAdam") != std::string::npos; }

std::vector<std::vector<int64_t>> reference_shapes(const std::string& config) {
  if (config.find("Muon") != std::string::npos) return {{3, 4}, {5, 2}};
  return {{3, 4}, {3}, {2, 3, 2, 2}};
}

ParamGroup reference_group(const std::string& config) {
  ParamGroup group;
  for (const auto& shape : reference_shapes(config)) {
    const auto k = static_cast<double>(group.params.size());
    group.names.push_back(text("p", group.params.size()));
    group.params.push_back(sines(shape, 0.7, 1 + k).set_requires_grad(true));
  }
  return group;
}

void reference_step(Optimizer& optimizer, const std::string& config, int t) {
  const auto& params = optimizer.groups()[0].params;
  for (size_t k = 0; k < params.size(); ++k) {
    at::Tensor param = params[k];
    at::Tensor grad = sines(param.sizes().vec(), 1.3, 0.5 * t + static_cast<double>(k)) * (t + 1);
    if (is_sparse(config)) grad.masked_fill_(grad <= 0.2 * (t + 1), 0);
    param.mutable_grad() = grad;
    if (t == 1 && k == 1) param.mutable_grad().reset();
  }
  optimizer.step();
}

void expect_near(const at::Tensor& found, const Json& expected, double tolerance) {
  const auto values = expected.get<std::vector<double>>();
  ASSERT_EQ(found.numel(), static_cast<int64_t>(values.size()));
  const at::Tensor difference =
      found.detach().to(at::kDouble).flatten() - torch::tensor(values, at::kDouble);
  EXPECT_LE(difference.abs().max().item<double>(), tolerance);
}

TEST(MmengineOptimizers, StepsAndStatesAreThoseOfPython) {
  const Json cases = mmengine_reference("mmengine_optimizers.json")["cases"];
  ASSERT_EQ(cases.size(), 9u);
  for (const auto& [config, expected] : cases.items()) {
    SCOPED_TRACE(config);
    // Muon multiplies in bfloat16.
    const double tolerance = config.find("Muon") != std::string::npos ? 1e-3 : 1e-10;
    auto optimizer = Spec<Optimizer>::of(config).build();
    optimizer->add_group(reference_group(config));
    for (int t = 0; t < 5; ++t) reference_step(*optimizer, config, t);
    for (size_t k = 0; k < optimizer->groups()[0].params.size(); ++k) {
      expect_near(optimizer->groups()[0].params[k], expected["params"][k], tolerance);
    }
    const Value state = optimizer->state_dict();
    ASSERT_EQ(state.at("state").as_dict().size(), expected["state"].size());
    for (const auto& [index, entry] : state.at("state").as_dict()) {
      const Json& want = expected["state"][std::to_string(index.as_int())];
      ASSERT_EQ(entry.as_dict().size(), want.size());
      for (const auto& [name, tensor] : entry.as_dict()) {
        ASSERT_TRUE(want.contains(name.as_string())) << name.as_string();
        expect_near(tensor.as_tensor(), want[name.as_string()], tolerance);
      }
    }
  }
}

TEST(MmengineOptimizers, ContinueFromASavedStateAsIfNeverStopped) {
  std::vector<std::string> configs{"{type: ASGD, lr: 0.1, t0: 1}"};
  const Json cases = mmengine_reference("mmengine_optimizers.json")["cases"];
  for (const auto& [config, expected] : cases.items()) configs.push_back(config);
  for (const std::string& config : configs) {
    SCOPED_TRACE(config);
    auto whole = Spec<Optimizer>::of(config).build();
    whole->add_group(reference_group(config));
    for (int t = 0; t < 3; ++t) reference_step(*whole, config, t);
    auto resumed = Spec<Optimizer>::of(config).build();
    ParamGroup group = reference_group(config);
    {
      const torch::NoGradGuard no_grad;
      for (size_t k = 0; k < group.params.size(); ++k) {
        group.params[k].copy_(whole->groups()[0].params[k]);
      }
    }
    resumed->add_group(std::move(group));
    resumed->load_state_dict(whole->state_dict());
    for (int t = 3; t < 5; ++t) {
      reference_step(*whole, config, t);
      reference_step(*resumed, config, t);
    }
    for (size_t k = 0; k < whole->groups()[0].params.size(); ++k) {
      EXPECT_TRUE(
          torch::allclose(whole->groups()[0].params[k], resumed->groups()[0].params[k], 0, 1e-6));
    }
  }
}

TEST(MmengineOptimizers, ReportOptionsThatPythonRefuses) {
  EXPECT_EQ(spec_error<Optimizer>("{type: Adafactor, lr: 0.1}"),
            "<default>:1:23: error: lr: needs relative_step: false, which then follows this rate "
            "alone\n1 error in the configuration");
  EXPECT_EQ(spec_error<Optimizer>("{type: Adafactor, relative_step: false}"),
            "<default>:1:1: error: lr: must be given where relative_step is false\n"
            "1 error in the configuration");
  EXPECT_EQ(
      spec_error<Optimizer>("{type: Adafactor, relative_step: false, lr: 1, warmup_init: true}"),
      "<default>:1:61: error: warmup_init: needs relative_step: true\n"
      "1 error in the configuration");
  EXPECT_EQ(spec_error<Optimizer>("{type: TorchAdafactor, beta2_decay: 0.5}"),
            "<default>:1:37: error: beta2_decay: must be at most 0\n"
            "1 error in the configuration");
  struct Kernels : torch::nn::Module {
    Kernels() { register_parameter("weight", torch::zeros({3, 2, 1, 1})); }
  } kernels;
  const auto muon = Spec<OptimWrapper>::of("{type: OptimWrapper, optimizer: {type: Muon}}");
  EXPECT_EQ(
      config_error([&] { muon.build(kernels); }),
      "<default>:1:33: error: optimizer: Muon trains matrices alone, and weight has the shape [3, "
      "2, 1, 1]. Write AdamW, or freeze all that is no matrix and give paramwise_cfg, which "
      "leaves out what is frozen\n1 error in the configuration");
}

/// Two parameters; that of p0 has a tenth of the rate and half of the decay.
struct TwoParameters : torch::nn::Module {
  TwoParameters() {
    register_parameter("p0", torch::zeros({1}));
    register_parameter("p1", torch::zeros({1}));
  }
};

std::unique_ptr<OptimWrapper> reference_wrapper(torch::nn::Module& model, const Json& c) {
  return Spec<OptimWrapper>::of(
             "{type: OptimWrapper, optimizer: " + c["optimizer"].dump() +
             ", paramwise_cfg: {custom_keys: {p0: {lr_mult: 0.1, decay_mult: 0.5}}}}")
      .build(model);
}

std::unique_ptr<ParamScheduler> reference_schedule(OptimWrapper& wrapper, const Json& c) {
  ScheduleLength length{12, 1, 12};
  if (c["kind"] == "plateau") length.max_epochs = kScheduleForever;
  return Spec<ParamScheduler>::of(c["spec"].dump()).build(wrapper, length);
}

void expect_options(OptimWrapper& wrapper, const std::string& name, const Json& expected) {
  const auto groups = wrapper.scheduled_groups();
  ASSERT_EQ(groups.size(), expected.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    const double found = name == "beta" ? groups[i]->momentum() : *groups[i]->hyper->number(name);
    const double want = expected[i].get<double>();
    EXPECT_NEAR(found, want, 1e-12 * std::abs(want)) << name << " of group " << i;
  }
}

/// Numbers, words and lists of numbers.
void expect_state_of(const Value& found, const Json& expected) {
  for (const auto& [key, want] : expected.items()) {
    SCOPED_TRACE(key);
    // Options that an OneCycle schedule does not need again.
    if (key == "eta_max" || key == "div_factor" || key == "final_div_factor") continue;
    const Value* value = found.find(key);
    ASSERT_TRUE(value);
    if (want.is_boolean()) {
      EXPECT_EQ(value->as_bool(), want.get<bool>());
    } else if (want.is_string()) {
      EXPECT_EQ(value->as_string(), want.get<std::string>());
    } else if (want.is_number()) {
      EXPECT_NEAR(value->as_float(), want.get<double>(), 1e-12);
    } else {
      ASSERT_EQ(value->as_list().size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        if (want[i].is_number()) {
          EXPECT_NEAR(value->as_list()[i].as_float(), want[i].get<double>(), 1e-12);
        }
      }
    }
  }
}

void reference_step(ParamScheduler& schedule, const Json& c, size_t i) {
  schedule.step();
  if (c["kind"] == "plateau") schedule.observe({{"aAcc", 1.0}, {"mIoU", c["metrics"][i]}});
}

TEST(MmengineSchedules, ValuesAndStatesAreThoseOfPython) {
  const Json cases = mmengine_reference("mmengine_schedules.json")["cases"];
  ASSERT_EQ(cases.size(), 17u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c["spec"].dump());
    TwoParameters model;
    auto wrapper = reference_wrapper(model, c);
    auto schedule = reference_schedule(*wrapper, c);
    expect_options(*wrapper, c["name"], c["values"][0]);
    for (size_t i = 0; i + 1 < c["values"].size(); ++i) {
      reference_step(*schedule, c, i);
      expect_options(*wrapper, c["name"], c["values"][i + 1]);
    }
    expect_state_of(schedule->state_dict(), c["state"]);
  }
}

TEST(MmengineSchedules, ContinueFromASavedState) {
  const Json cases = mmengine_reference("mmengine_schedules.json")["cases"];
  for (const Json& c : cases) {
    SCOPED_TRACE(c["spec"].dump());
    TwoParameters model;
    auto first = reference_wrapper(model, c);
    auto schedule = reference_schedule(*first, c);
    for (size_t i = 0; i < 6; ++i) reference_step(*schedule, c, i);
    auto second = reference_wrapper(model, c);
    auto resumed = reference_schedule(*second, c);
    second->load_state_dict(first->state_dict());
    resumed->load_state_dict(schedule->state_dict());
    for (size_t i = 6; i + 1 < c["values"].size(); ++i) {
      reference_step(*resumed, c, i);
      expect_options(*second, c["name"], c["values"][i + 1]);
    }
  }
}

TEST(MmengineSchedules, ReportWhatTheyCannotChange) {
  TwoParameters model;
  auto wrapper =
      Spec<OptimWrapper>::of("{type: OptimWrapper, optimizer: {type: AdamW}}").build(model);
  const auto error = [&](const std::string& yaml) {
    const auto spec = Spec<ParamScheduler>::of(yaml);
    return config_error([&] { spec.build(*wrapper, ScheduleLength{10, 1, 10}); });
  };
  EXPECT_EQ(error("{type: PolyParamScheduler, param_name: momentum}"),
            "<default>:1:40: error: param_name: the optimizer has no number 'momentum' among its "
            "options\n1 error in the configuration");
  EXPECT_EQ(error("{type: OneCycleParamScheduler, param_name: eps}"),
            "<default>:1:44: error: param_name: one cycle is of the learning rate, lr, not of "
            "eps\n1 error in the configuration");
  EXPECT_EQ(error("{type: ReduceOnPlateauLR, min_value: [0, 0, 0]}"),
            "<default>:1:38: error: min_value: needs one value or 1 (parameter groups), got 3\n"
            "1 error in the configuration");
  EXPECT_EQ(spec_error<ParamScheduler>("{type: ReduceOnPlateauLR, factor: 1.5, by_epoch: false}"),
            "<default>:1:35: error: factor: must be below 1, got 1.5\n"
            "<default>:1:50: error: by_epoch: must be true: it acts after validations\n"
            "2 errors in the configuration");
}

class MmengineTypes : public ::testing::Test {
 protected:
  MmengineTypes() { dir_.write("tiny.yaml", tiny_run_yaml()); }
  RunConfig load(const std::string& changes) {
    return load_run_config(dir_.write("changed.yaml", "_base_: tiny.yaml\n" + changes));
  }
  /// Everything is built; the output is what it said.
  std::string built(const std::string& changes) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const std::string error = config_error([&] { build_all(load(changes)); });
    const std::string said =
        ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
    return error == "no error" ? said : error;
  }
  TempDir dir_;
};

TEST_F(MmengineTypes, APlateauNeedsAMetricOfTheValidation) {
  EXPECT_THAT(built("param_scheduler: [{type: ReduceOnPlateauLR}]\n"),
              HasSubstr("error: param_scheduler.0.monitor: no metric is called 'loss'. Known: "));
  EXPECT_THAT(built("param_scheduler: [{type: ReduceOnPlateauLR, monitor: mIoU, rule: greater}]\n"),
              ::testing::Not(HasSubstr("param_scheduler")));
  EXPECT_THAT(
      built("param_scheduler: [{type: ReduceOnPlateauLR, monitor: mIoU}]\n"
            "val_dataloader: null\nval_evaluator: null\nval_cfg: null\n"
            "default_hooks: {checkpoint: {save_best: null}}\n"),
      HasSubstr("param_scheduler.0: ReduceOnPlateauLR acts after validations, and there are "
                "none"));
}

TEST_F(MmengineTypes, AnOptimizerThatSharesItsStateIsTheOneThatItWraps) {
  const std::string changes =
      "optim_wrapper: {optimizer: {_delete_: true, type: ZeroRedundancyOptimizer, "
      "optimizer_type: Adafactor, parameters_as_bucket_view: true, lr: 0.5}}\n";
  EXPECT_THAT(built(changes),
              HasSubstr("optim_wrapper.optimizer: ZeroRedundancyOptimizer computes as "
                        "TorchAdafactor, and each process keeps the whole state here"));
  EXPECT_EQ(load(changes).tree.at_path("optim_wrapper.optimizer.type")->scalar, "TorchAdafactor");
  EXPECT_THAT(built("optim_wrapper: {optimizer: {_delete_: true, type: "
                    "ZeroRedundancyOptimizer}}\n"),
              HasSubstr("optim_wrapper.optimizer: ZeroRedundancyOptimizer needs 'optimizer_type' "
                        "(string): the optimizer that it wraps\n1 error"));
}

TEST_F(MmengineTypes, ApexIsPyTorchsMixedPrecision) {
  EXPECT_THAT(
      built("optim_wrapper: {type: ApexOptimWrapper, opt_level: O2, verbosity: 0}\n"),
      ::testing::AllOf(HasSubstr("optim_wrapper.type: Apex is a Python package: PyTorch's mixed "
                                 "precision stands for it, as in AmpOptimWrapper"),
                       HasSubstr("optim_wrapper.opt_level: O2 computes as O1: weights stay in "
                                 "float32")));
  EXPECT_THAT(built("optim_wrapper: {type: ApexOptimWrapper, loss_scale: '128.0x'}\n"),
              HasSubstr("optim_wrapper.loss_scale: expected 'dynamic' or a number, got '128.0x'"));
  TwoParameters model;
  const auto scaled = [&](const std::string& options) {
    const auto wrapper =
        Spec<OptimWrapper>::of("{type: ApexOptimWrapper, optimizer: {type: SGD}" + options + "}")
            .build(model);
    return wrapper->scale_loss(torch::ones({})).item<double>();
  };
  EXPECT_EQ(scaled(", loss_scale: 128"), 128);
  EXPECT_EQ(scaled(", loss_scale: '128.0'"), 128);
  EXPECT_EQ(scaled(", loss_scale: 128, opt_level: O0"), 1);
  EXPECT_EQ(scaled(", loss_scale: 128, enabled: false"), 1);
}

TEST_F(MmengineTypes, TheBaseVisualizerRecordsLikeItsHeirs) {
  const RunConfig config = load("visualizer: {_delete_: true, type: Visualizer}\n");
  EXPECT_EQ(config.visualizer->type(), "Visualizer");
  EXPECT_EQ(build_visualizer(config, {.folder = dir_.path().string()})->alpha(), 0.8);
}

TEST(MmengineNames, AreKnownOrRefusedWithAReason) {
  const std::map<std::string, std::vector<std::string>> names{
      {"hook",
       {"CheckpointHook", "DistSamplerSeedHook", "EMAHook", "EarlyStoppingHook", "EmptyCacheHook",
        "IterTimerHook", "LoggerHook", "NPUProfilerHook", "NaiveVisualizationHook",
        "ParamSchedulerHook", "PrepareTTAHook", "ProfilerHook", "RuntimeInfoHook",
        "SyncBuffersHook"}},
      {"optimizer",
       {"ASGD",       "Adadelta",  "Adafactor", "Adagrad",   "Adam",       "AdamW",
        "Adamax",     "LBFGS",     "Lion",      "Muon",      "NAdam",      "Optimizer",
        "RAdam",      "RMSprop",   "Rprop",     "SGD",       "SparseAdam", "TorchAdafactor",
        "DAdaptAdam", "AdamW8bit", "bnb_SGD",   "FusedAdam", "HybridAdam"}},
      {"optim_wrapper",
       {"AmpOptimWrapper", "ApexOptimWrapper", "ColossalAIOptimWrapper", "DeepSpeedOptimWrapper",
        "OptimWrapper", "OptimWrapperDict"}},
      {"optim_wrapper_constructor",
       {"DefaultOptimWrapperConstructor", "LayerDecayOptimizerConstructor",
        "LearningRateDecayOptimizerConstructor", "ForceDefaultOptimWrapperConstructor"}},
      {"training loop", {"EpochBasedTrainLoop", "IterBasedTrainLoop"}},
      {"evaluation loop", {"ValLoop", "TestLoop"}},
      {"visualizer", {"Visualizer", "SegLocalVisualizer"}},
      {"visualizer_backend", {"LocalVisBackend", "TensorboardVisBackend"}},
      {"sampler", {"DefaultSampler", "InfiniteSampler"}},
      {"metric", {"DumpResults"}},
      {"dataset", {"ConcatDataset", "RepeatDataset", "ClassBalancedDataset"}},
  };
  std::map<std::string, std::vector<std::string>> wanted = names;
  for (const std::string schedule :
       {"Constant", "CosineAnnealing", "CosineRestart", "Exponential", "Linear", "MultiStep",
        "OneCycle", "Poly", "ReduceOnPlateau", "Step"}) {
    for (const std::string what : {"LR", "Momentum", "ParamScheduler"}) {
      // MMEngine has none.
      if (schedule + what == "OneCycleMomentum") continue;
      wanted["param_scheduler"].push_back(schedule + what);
    }
  }
  for (const auto& [category, types] : wanted) {
    std::set<std::string> registered;
    for (const AnyRegistry* registry : AnyRegistry::all()) {
      if (registry->category() != category) continue;
      for (const auto& info : registry->types()) registered.insert(info.name);
    }
    for (const std::string& type : types) {
      EXPECT_NE(registered.contains(type), !reason_left_out(category, type).empty())
          << category << " " << type;
    }
  }
}

TEST(MmengineNames, ARefusalNamesTheReasonAndTheWayOut) {
  EXPECT_EQ(spec_error<Optimizer>("{type: LBFGS}"),
            "<default>:1:8: error: LBFGS is left out: it computes the loss several times in a "
            "step, and an OptimWrapper computes it once, in Python too. Write AdamW or SGD\n"
            "1 error in the configuration");
  EXPECT_EQ(spec_error<Optimizer>("{type: bitsandbytes.AdamW8bit}"),
            "<default>:1:8: error: AdamW8bit is left out: it is of bitsandbytes, a Python package "
            "with kernels of its own. Write the optimizer of the same name without prefix and "
            "bits, such as AdamW, Lion or SGD; Adam, AdamW and SGD keep their means in 8 bits by "
            "state_dtype: int8\n1 error in the configuration");
  EXPECT_EQ(spec_error<Hook>("{type: NPUProfilerHook, begin: 0}"),
            "<default>:1:8: error: NPUProfilerHook is left out: it records Ascend NPUs. Write "
            "ProfilerHook\n1 error in the configuration");
  EXPECT_EQ(spec_error<Hook>("{type: NaiveVisualizationHook}"),
            "<default>:1:8: error: NaiveVisualizationHook is left out: it does not know the "
            "samples of MMSegmentation and fails on them. Write {type: SegVisualizationHook, draw: "
            "true, interval: 1}\n1 error in the configuration");
  EXPECT_EQ(spec_error<OptimWrapper>("{type: OptimWrapperDict}"),
            "<default>:1:8: error: OptimWrapperDict is left out: several optimizers need a model "
            "whose Python code steps each. Write OptimWrapper with paramwise_cfg, which gives "
            "parts of the model other rates\n1 error in the configuration");
  EXPECT_EQ(spec_error<Hook>("{type: PrepareTTAHook}"),
            "<default>:1:1: error: PrepareTTAHook needs 'tta_cfg' (mapping): how augmented "
            "predictions are joined\n1 error in the configuration");
}

}  // namespace
}  // namespace seg::test
