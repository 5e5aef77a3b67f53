#include "runners/start/ensemble_config.hpp"
#include "runners/start/run_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runners/start/options.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class RunConfigTest : public ::testing::Test {
 protected:
  RunConfigTest() : path_(dir_.write("tiny.yaml", tiny_run_yaml())) {}
  std::string error(const std::vector<std::string>& overrides) const {
    return config_error([&] { load_run_config(path_, overrides); });
  }
  TempDir dir_;
  std::string path_;
};

TEST_F(RunConfigTest, ReadsAWholeConfiguration) {
  const RunConfig config = load_run_config(path_);
  EXPECT_EQ(config.model.type(), "EncoderDecoder");
  EXPECT_EQ(config.train_dataloader->batch_size, 3);
  EXPECT_EQ(config.randomness.seed, 3);
  EXPECT_EQ(config.stem(), "tiny");
  EXPECT_EQ(config.param_scheduler->values.size(), 2u);
}

TEST_F(RunConfigTest, FillsInWhatMMEngineImplies) {
  const RunConfig config = load_run_config(
      dir_.write("implied.yaml",
                 "_base_: tiny.yaml\n"
                 "optim_wrapper: {_delete_: true, optimizer: {type: SGD, lr: 0.1}}\n"
                 "train_cfg: {_delete_: true, max_epochs: 2}\n"
                 "default_hooks: {_delete_: true, checkpoint: {interval: 2}}\n"
                 "val_cfg: {_delete_: true}\n"));
  EXPECT_EQ(config.optim_wrapper->type(), "OptimWrapper");
  EXPECT_EQ(config.train_cfg->type(), "EpochBasedTrainLoop");
  EXPECT_EQ(config.default_hooks.at("checkpoint")->type(), "CheckpointHook");
  EXPECT_EQ(config.val_cfg->type(), "ValLoop");
}

TEST_F(RunConfigTest, ATopLevelPreprocessorIsTheModels) {
  const std::string text =
      "_base_: tiny.yaml\n"
      "model: {data_preprocessor: null}\n"
      "data_preprocessor: {type: SegDataPreProcessor, size: [16, 16]}\n";
  Config tree = load_config(dir_.write("shared.yaml", text));
  std::erase_if(tree.find("model")->value.map,
                [](const Config::Item& item) { return item.key == "data_preprocessor"; });
  Diagnostics problems;
  const RunConfig config = read_run_config(tree, "shared.yaml", problems);
  EXPECT_NE(config.tree.at_path("model.data_preprocessor.size"), nullptr);
}

TEST_F(RunConfigTest, ReportsAllErrorsAtOnce) {
  const std::string text = error({"train_cfg.max_iters=-1", "randomness.sed=4",
                                  "default_hooks.checkpoint.rule=more", "log_level=LOUD"});
  EXPECT_THAT(text, HasSubstr("train_cfg.max_iters: must be at least 1, got -1"));
  EXPECT_THAT(text, HasSubstr("there is no option 'sed'. Did you mean 'seed'?"));
  EXPECT_THAT(text, HasSubstr("expected greater or less, got 'more'"));
  EXPECT_THAT(text, HasSubstr("unknown value 'LOUD'"));
  EXPECT_THAT(text, HasSubstr("4 errors in the configuration"));
}

TEST_F(RunConfigTest, PartsThatBelongTogetherMustBeThere) {
  EXPECT_THAT(error({"val_evaluator=None"}),
              HasSubstr("val_dataloader: needs 'val_evaluator' beside it"));
  EXPECT_THAT(error({"optim_wrapper=None"}),
              HasSubstr("train_cfg: needs 'optim_wrapper' beside it"));
}

TEST_F(RunConfigTest, HooksHavePriorities) {
  EXPECT_EQ(Spec<Hook>::of("{type: CheckpointHook}").build()->priority(), 90);
  EXPECT_EQ(Spec<Hook>::of("{type: CheckpointHook, priority: ABOVE_NORMAL}").build()->priority(),
            40);
  EXPECT_EQ(Spec<Hook>::of("{type: CheckpointHook, priority: 55}").build()->priority(), 55);
  EXPECT_THAT(spec_error<Hook>("{type: CheckpointHook, priority: FIRST}"),
              HasSubstr("expected a number from 0 to 100 or one of HIGHEST"));
  std::vector<std::string> order;
  const RunConfig config = load_run_config(path_);
  const Hooks hooks = build_hooks(config.default_hooks, *config.custom_hooks);
  for (const HookEntry& entry : hooks.entries()) order.push_back(entry.type);
  EXPECT_THAT(order, ::testing::ElementsAre("RuntimeInfoHook", "CheckInvalidLossHook",
                                            "IterTimerHook", "DistSamplerSeedHook", "EMAHook",
                                            "LoggerHook", "ParamSchedulerHook", "CheckpointHook"));
}

TEST_F(RunConfigTest, CommandLineOptionsBecomeValuesOfTheConfig) {
  TrainOptions options;
  options.work_dir = "elsewhere";
  options.amp = true;
  options.resume = true;
  Config tree = load_config(path_);
  apply_options(tree, options);
  EXPECT_EQ(tree.at_path("work_dir")->scalar, "elsewhere");
  EXPECT_EQ(tree.at_path("optim_wrapper.type")->scalar, "AmpOptimWrapper");
  EXPECT_EQ(tree.at_path("optim_wrapper.loss_scale")->scalar, "dynamic");
  EXPECT_EQ(tree.at_path("resume")->scalar, "true");
  EXPECT_EQ(tree.at_path("work_dir")->origin.text(), "--work-dir");
}

TEST_F(RunConfigTest, TestTimeAugmentationNeedsItsPipeline) {
  TestOptions options;
  options.tta = true;
  Config tree = load_config(path_);
  EXPECT_THAT(config_error([&] { apply_options(tree, options); }),
              HasSubstr("--tta needs 'tta_pipeline' in the configuration"));
}

/// Every option of every configuration that is shipped, and no word of a warning.
TEST(AllConfigs, PassTheCheckOfAllOptions) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_path("configs"))) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".yaml") continue;
    if (path.find("/_base_/") != std::string::npos) continue;
    // Rules that map the names of weights.
    if (path.find("/configs/weights/") != std::string::npos) continue;
    // Many runs each: test_sweep_plan.cpp.
    if (path.find("/configs/sweeps/") != std::string::npos) continue;
    // Two sweeps: test_ensemble.cpp.
    if (path.ends_with("/configs/ensemble/camvid.yaml")) continue;
    ++count;
    Diagnostics problems;
    EXPECT_EQ(config_error([&] {
                Config tree = load_config(path, {}, problems);
                expand_ensemble(tree, problems);
                check_variables(tree, {}, run_config_keys(), problems);
                read_run_config(std::move(tree), path, problems);
              }),
              "no error");
    // As published, its learning rate is 0 in the second half.
    if (path.ends_with("/beit/l_ade20k.yaml")) continue;
    EXPECT_EQ(problems.warnings_text(), "");
  }
  EXPECT_GT(count, 100u);
}

}  // namespace
}  // namespace seg::test
