/// The stages that training calls, seen by a hook.
#include "runners/train/training_run.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/hooks/hook.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;

/// What WatchingHook saw, since a config builds it.
std::vector<std::string> watched;

/// Notes the stages of each step, and asks for a validation after the second.
class WatchingHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() { return HookParams::schema(); }
  explicit WatchingHook(const Params& params) : Hook(params, Priority::kNormal) {}

  void attach(const HookTargets& targets) override { model_ = targets.model; }
  void before_train_iter(const RunInfo&, const Progress& progress) override {
    note("before", progress);
  }
  void after_backward(const RunInfo&, const Progress& progress) override {
    note(head_gradient() > 0 ? "gradients" : "no gradients", progress);
  }
  void after_train_iter(const RunInfo&, const Progress& progress, const StepResult& step,
                        RunControl& control) override {
    note(step.losses.front().first.c_str(), progress);
    if (progress.iter == 2) control.request_validation();
  }
  void after_val(const RunInfo&, const Progress& progress, const EvalResult&,
                 RunControl& control) override {
    note("val", progress);
    if (progress.iter == 4) control.stop();
  }

 private:
  static void note(const char* stage, const Progress& progress) {
    watched.push_back(text(stage, ' ', progress.iter));
  }
  double head_gradient() const {
    double sum = 0;
    for (const auto& item : model_->named_parameters()) {
      const at::Tensor& gradient = item.value().grad();
      if (item.key().starts_with("decode_head.") && gradient.defined()) {
        sum += gradient.square().sum().item<double>();
      }
    }
    return sum;
  }

  const Segmentor* model_ = nullptr;
};
SEG_REGISTER(Hook, WatchingHook);

TEST(TrainingRun, CallsTheStagesAndHeedsWhatHooksAskFor) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  const std::string path = dir.write("a.yaml",
                                     "_base_: tiny.yaml\n"
                                     "train_cfg: {val_interval: 4}\n"
                                     "custom_hooks: [{type: WatchingHook}]\n"
                                     "randomness: {deterministic: false}\n"
                                     "work_dir: " +
                                         (dir / "run") + "\n");
  watched.clear();
  run_training(load_run_config(path));
  // Twelve steps are configured: the hook ended training in the validation after the fourth.
  EXPECT_THAT(watched, ElementsAre("before 0", "gradients 0", "loss 1", "before 1", "gradients 1",
                                   "loss 2", "val 2", "before 2", "gradients 2", "loss 3",
                                   "before 3", "gradients 3", "loss 4", "val 4"));
}

/// Notes the losses of all steps, and how the maps of the backbone lie in memory.
class FormatHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() { return HookParams::schema(); }
  explicit FormatHook(const Params& params) : Hook(params, Priority::kNormal) {}

  void attach(const HookTargets& targets) override { model_ = targets.model; }
  void after_train_iter(const RunInfo&, const Progress&, const StepResult& step,
                        RunControl&) override {
    losses.push_back(step.losses.front().second.item<double>());
    Batch batch;
    batch.samples.emplace_back().image = torch::zeros({3, 8, 8}, torch::kUInt8);
    const auto input = model_->data_preprocessor()(batch, /*training=*/false, torch::kCPU);
    channels_last = input.images.is_contiguous(at::MemoryFormat::ChannelsLast);
  }

  static inline std::vector<double> losses;
  static inline bool channels_last = false;

 private:
  const Segmentor* model_ = nullptr;
};
SEG_REGISTER(Hook, FormatHook);

TEST(TrainingRun, LearnsTheSameInBothMemoryFormats) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  std::map<std::string, std::vector<double>> losses;
  for (const std::string format : {"auto", "contiguous", "channels_last"}) {
    const std::string path = dir.write(format + ".yaml",
                                       "_base_: tiny.yaml\ncustom_hooks: [{type: FormatHook}]\n"
                                       "env_cfg: {memory_format: " +
                                           format +
                                           "}\n"
                                           "work_dir: " +
                                           (dir / format) + "\n");
    FormatHook::losses.clear();
    run_training(load_run_config(path));
    losses[format] = FormatHook::losses;
    EXPECT_EQ(FormatHook::channels_last, format == "channels_last");
  }
  EXPECT_EQ(losses["auto"], losses["contiguous"]);
  ASSERT_EQ(losses["channels_last"].size(), losses["contiguous"].size());
  for (size_t i = 0; i < losses["contiguous"].size(); ++i) {
    EXPECT_NEAR(losses["channels_last"][i], losses["contiguous"][i], 1e-3);
  }
}

}  // namespace
}  // namespace seg::test
