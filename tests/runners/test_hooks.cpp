#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "registry/error.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/metric_rule.hpp"
#include "runners/log/records.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// One weight and one buffer; nothing else of a model is used by hooks.
class OneWeightModel final : public Segmentor {
 public:
  OneWeightModel() {
    weight_ = register_parameter("weight", torch::zeros({2}));
    counter_ = register_buffer("counter", torch::zeros({1}));
  }
  std::vector<torch::Tensor> extract_feat(const torch::Tensor& x) override { return {x}; }
  torch::Tensor encode_decode(const torch::Tensor& x) override { return x; }
  LossMap compute_loss(const torch::Tensor&, const Targets&) override { return {}; }
  torch::Tensor inference(const torch::Tensor& x) override { return x; }
  std::vector<Prediction> predict(const ModelInput&) override { return {}; }
  Prediction predict_windows(const ModelInput&, Size2, Size2) override { return {}; }
  std::vector<Prediction> predict_tta(const std::vector<ModelInput>&) override { return {}; }
  std::vector<Prediction> predict_scores(const std::vector<ModelInput>&) override { return {}; }
  const DataPreProcessor& data_preprocessor() const override { throw Error("none"); }
  void set_memory_format(at::MemoryFormat) override {}
  int64_t num_classes() const override { return 2; }
  int64_t ignore_index() const override { return 255; }
  const TestCfg& test_cfg() const override { return test_cfg_; }
  void set(double value) {
    const torch::NoGradGuard no_grad;
    weight_.fill_(value);
    counter_.fill_(value);
  }
  double value() const { return weight_[0].item<double>(); }

 private:
  torch::Tensor weight_, counter_;
  TestCfg test_cfg_;
};

/// Keeps what hooks ask for.
struct NotedControl final : RunControl {
  void stop() override { stopped = true; }
  void request_validation() override {}
  void save_checkpoint(const std::string&, const SaveParts&, std::function<void()>) override {}
  int64_t last_saved_iter() const override { return -1; }
  bool stopped = false;
};

/// A run of one process for a single hook.
struct HookRun {
  explicit HookRun(Hook& watching) : hook(watching) {
    run.communicator = &alone;
    hook.attach({.model = &model, .records = &records});
  }
  void step(double value) {
    model.set(value);
    ++progress.iter;
    hook.after_train_iter(run, progress, result, control);
  }
  void before_val() { hook.before_val(run, progress); }
  void after_val(const Scalars& metrics = {}) {
    hook.after_val(run, progress, {.metrics = metrics, .table = ""}, control);
  }
  Hook& hook;
  OneWeightModel model;
  SingleProcess alone;
  RunInfo run;
  Records records;
  Progress progress;
  StepResult result;
  NotedControl control;
};

TEST(EMAHook, AveragesAsMMEngineDoes) {
  const auto hook = Spec<Hook>::of("{type: EMAHook, momentum: 0.25}").build();
  HookRun run(*hook);
  hook->before_train(run.run, run.progress);
  run.step(4);  // the first step is copied
  run.step(8);  // 4 + 0.25 * (8 - 4) = 5
  run.before_val();
  EXPECT_EQ(run.model.value(), 5);
  run.after_val();
  EXPECT_EQ(run.model.value(), 8);

  Value checkpoint = Value::dict(), weights = Value::dict();
  const Value own = state_dict(run.model);
  for (const auto& [name, tensor] : own.as_dict()) {
    weights.set(name, tensor.as_tensor().clone());
  }
  checkpoint.set("state_dict", weights);
  hook->save_state(checkpoint);
  EXPECT_EQ(checkpoint.at("state_dict").at("weight").as_tensor()[0].item<double>(), 5);
  EXPECT_EQ(checkpoint.at("ema_state_dict").at("module.weight").as_tensor()[0].item<double>(), 8);
  EXPECT_EQ(checkpoint.at("ema_state_dict").at("steps").as_tensor().item<int64_t>(), 2);

  const auto other = Spec<Hook>::of("{type: EMAHook, momentum: 0.25}").build();
  HookRun resumed(*other);
  other->load_state(checkpoint);
  load_state_dict(resumed.model, checkpoint.at("state_dict"));
  EXPECT_EQ(resumed.model.value(), 8);
  resumed.step(9);  // 5 + 0.25 * 4 = 6
  resumed.before_val();
  EXPECT_EQ(resumed.model.value(), 6);
}

TEST(EMAHook, StochasticWeightsAreThePlainMean) {
  const auto hook = Spec<Hook>::of("{type: EMAHook, ema_type: StochasticWeightAverage}").build();
  HookRun run(*hook);
  hook->before_train(run.run, run.progress);
  for (const double v : {3.0, 6.0, 9.0}) run.step(v);
  run.before_val();
  EXPECT_NEAR(run.model.value(), 6, 1e-6);
}

TEST(EarlyStoppingHook, StopsAfterItsPatience) {
  const auto hook =
      Spec<Hook>::of("{type: EarlyStoppingHook, monitor: mIoU, patience: 2, min_delta: 1}").build();
  HookRun run(*hook);
  std::vector<bool> stopped;
  for (const double score : {10.0, 20.0, 20.5, 20.2}) {
    run.after_val({{"mIoU", score}});
    stopped.push_back(run.control.stopped);
  }
  EXPECT_THAT(stopped, ::testing::ElementsAre(false, false, false, true));
}

TEST(EarlyStoppingHook, WarnsOnceOfAMetricThatIsNotThere) {
  const auto hook =
      Spec<Hook>::of("{type: EarlyStoppingHook, monitor: mIuO, rule: greater}").build();
  HookRun run(*hook);
  ::testing::internal::CaptureStdout();
  hook->check_metrics({"mIoU"});
  for (int validation = 0; validation < 2; ++validation) run.after_val({{"mIoU", 10.0}});
  const std::string printed = ::testing::internal::GetCapturedStdout();
  const std::string warning = "no metric is called 'mIuO', so training will not stop early.";
  EXPECT_THAT(printed, HasSubstr(warning));
  EXPECT_EQ(printed.find(warning), printed.rfind(warning));
}

TEST(CheckInvalidLossHook, NamesTheLossAndTheWayOut) {
  const auto hook = Spec<Hook>::of("{type: CheckInvalidLossHook, interval: 1}").build();
  HookRun run(*hook);
  run.progress.iter = 6;
  run.result.losses = {{"loss", torch::tensor(NAN)}, {"decode.loss_ce", torch::tensor(NAN)}};
  try {
    run.step(0);
    FAIL();
  } catch (const RunEnded& e) {
    EXPECT_EQ(e.exit_code(), 21);
    EXPECT_STREQ(e.what(),
                 "the loss is not finite at iteration 7: loss nan, decode.loss_ce nan. No "
                 "checkpoint was written yet. A lower learning rate, a longer warm-up or clip_grad "
                 "often helps; so does full precision");
  }
}

TEST(CheckpointHook, KnowsWhatIsBetter) {
  const auto rule = [](const std::string& metric) {
    return infer_metric_rule(metric, default_greater_keys(), default_less_keys())
        .value_or("unknown");
  };
  EXPECT_EQ(rule("mIoU"), "greater");
  EXPECT_EQ(rule("IoU.road"), "greater");
  EXPECT_EQ(rule("loss"), "less");
  EXPECT_EQ(rule("decode.loss_ce"), "less");
  EXPECT_EQ(rule("entropy"), "unknown");
  EXPECT_EQ(spec_error<Hook>("{type: CheckpointHook, save_best: entropy}"),
            "<default>:1:35: error: save_best: it is not known whether a higher or lower 'entropy' "
            "is better: set 'rule'.\n1 error in the configuration");
  EXPECT_THAT(spec_error<Hook>("{type: CheckpointHook, save_best: [auto, mIoU]}"),
              HasSubstr("'auto' cannot be combined"));
  EXPECT_THAT(spec_error<Hook>("{type: CheckpointHook, filename_tmpl: last.pth}"),
              HasSubstr("must contain {} once"));
}

TEST(FindCheckpoint, TheNewestReadableCheckpointIsFound) {
  const TempDir dir;
  const auto write = [&](const std::string& name, int64_t iter) {
    Value checkpoint = Value::dict(), meta = Value::dict();
    meta.set("iter", iter);
    meta.set("epoch", int64_t{0});
    checkpoint.set("meta", meta);
    checkpoint.set("state_dict", Value::dict());
    write_checkpoint(dir / name, checkpoint);
  };
  EXPECT_FALSE(find_checkpoint(dir.path().string()).has_value());
  write("iter_8.pth", 8);
  write("iter_12.pth", 12);
  write("best_mIoU_iter_16.pth", 16);
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "iter_12.pth");
  dir.write("last_checkpoint", dir / "iter_8.pth");
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "iter_8.pth");
  dir.write("last_checkpoint", "/somewhere/else/iter_12.pth");
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "iter_12.pth");
  dir.write("iter_12.pth", "cut short");
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "iter_8.pth");

  // Of a run by epochs that was stopped in the third and lost its last_checkpoint.
  std::filesystem::remove(dir / "last_checkpoint");
  for (const char* name : {"iter_8.pth", "iter_12.pth"}) std::filesystem::remove(dir / name);
  write("epoch_1_iter_70.pth", 70);
  write("epoch_2.pth", 80);
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "epoch_2.pth");
  write("epoch_2_iter_97.pth", 97);
  EXPECT_EQ(find_checkpoint(dir.path().string())->path, dir / "epoch_2_iter_97.pth");
}

}  // namespace
}  // namespace seg::test
