/// Configurations of MMSegmentation 0.x: what they become, what is said of it, and which overrides
/// count.
#include "runners/start/old_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "registry/text.hpp"
#include "runners/start/run_config.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kShort =
    "optimizer: {type: SGD, lr: 0.1}\n"
    "lr_config: {policy: poly, power: 0.9}\n"
    "runner: {type: IterBasedRunner, max_iters: 100}\n";

class OldConfig : public ::testing::Test {
 protected:
  Config load(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    problems_ = {};
    return load_any_config(dir_.write("a.yaml", yaml), overrides, problems_);
  }
  std::string place(const std::string& position) const {
    return dir_ / "a.yaml" + ":" + position + ": ";
  }
  std::string flow(const Config& tree, const std::string& path) const {
    const Config* value = tree.at_path(path);
    return value ? dump_flow(*value) : "absent";
  }
  TempDir dir_;
  Diagnostics problems_;
};

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(OldConfig, BecomesWhatTheFilesBesideItSay) {
  const std::filesystem::path folder = source_path("tests/data/old_configs");
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".yaml") || name.ends_with(".expected.yaml")) continue;
    ++count;
    Diagnostics problems;
    YamlComments comments;
    const Config tree = load_any_config(entry.path().string(), {}, problems, &comments);
    std::string printed = dump_yaml(tree, false, false, comments);
    const std::string above = folder.string() + "/";
    for (size_t at = 0; (at = printed.find(above)) != std::string::npos;) {
      printed.erase(at, above.size());
    }
    EXPECT_EQ(printed, text_of(folder / (entry.path().stem().string() + ".expected.yaml"))) << name;
  }
  EXPECT_GE(count, 12U);
}

TEST_F(OldConfig, IsAnnouncedInOneLineAndDeviationsInOneEach) {
  load(std::string(kShort) + "momentum_config: {policy: cyclic}\n");
  EXPECT_EQ(problems_.warnings_text(),
            place("1:12") +
                "warning: this is a configuration of MMSegmentation 0.x (it has optimizer, "
                "lr_config, runner), which is translated; 'tools/print_config " +
                dir_ / "a.yaml" + "' prints the result\n" + place("4:18") +
                "warning: momentum_config: is left out: nothing here does the same");
}

TEST_F(OldConfig, ValuesKeepTheLineThatHasToBeMended) {
  const std::string tiny = tiny_run_yaml();
  const std::string model = tiny.substr(0, tiny.find("train_dataloader:"));
  const std::string path = dir_.write(
      "a.yaml", model +
                    "data:\n"
                    "  samples_per_gpu: many\n"
                    "  workers_per_gpu: 1\n"
                    "  train: {type: CustomDataset, img_dir: img, imag_suffix: .png, pipeline: "
                    "[{type: RandomFlip, flip_ratio: 2.0}, {type: Collect}]}\n"
                    "optimizer: {type: SGD, lr: fast}\n"
                    "runner: {type: IterBasedRunner, max_iters: 3}\n");
  const std::string found = config_error([&] { load_run_config(path); });
  EXPECT_THAT(found, HasSubstr(place("36:20") + "error: train_dataloader.batch_size: expected "));
  EXPECT_THAT(found, HasSubstr(place("38:46") + "error: train_dataloader.dataset: "));
  EXPECT_THAT(found, HasSubstr("'imag_suffix'"));
  EXPECT_THAT(found, HasSubstr(place("38:107")));
  EXPECT_THAT(found, HasSubstr(place("39:28") + "error: optim_wrapper.optimizer.lr: expected "));
}

TEST_F(OldConfig, OverridesMayUseTheKeysOfEitherVersion) {
  const Config tree =
      load(kShort, {"optimizer.lr=0.5", "runner.max_iters=10", "train_cfg.type=IterBasedTrainLoop",
                    "param_scheduler.0.power=2.0", "optim_wrapper.clip_grad.max_norm=1.0"});
  EXPECT_EQ(flow(tree, "optim_wrapper"),
            "{type: OptimWrapper, optimizer: {type: SGD, lr: 0.5}, clip_grad: {max_norm: 1.0}}");
  EXPECT_EQ(flow(tree, "param_scheduler.0.end"), "10");
  EXPECT_EQ(flow(tree, "param_scheduler.0.power"), "2.0");
  EXPECT_EQ(flow(tree, "optimizer"), "absent");
  EXPECT_FALSE(problems_.has_errors());

  // In a config of today, an old key is no option; and neither is a variable in an old one.
  load("model: {type: EncoderDecoder}\n", {"optimizer.lr=0.5"});
  EXPECT_THAT(problems_.text(), HasSubstr("--cfg-options #1: error: optimizer: nothing uses this"));
  load(kShort, {"crop_size=3"});
  EXPECT_THAT(problems_.text(), HasSubstr("--cfg-options #1: error: crop_size: nothing uses this"));
}

TEST_F(OldConfig, WhatHasNoCounterpartAtAllIsAnError) {
  EXPECT_EQ(
      config_error([&] { load("optimizer: {type: SGD}\nlr_config: {policy: inv, gamma: 0.1}\n"); }),
      place("2:21") +
          "error: lr_config.policy: no schedule here is like 'inv'. Known: poly, step, "
          "fixed, exp, CosineAnnealing, FlatCosineAnnealing, CosineRestart, "
          "LinearAnnealing, OneCycle\n1 error in the configuration");
  EXPECT_EQ(config_error([&] {
              load(
                  "data:\n  samples_per_gpu: 1\n  train: {type: CustomDataset, pipeline: "
                  "[{type: Resize, ratio_range: [0.5, 2.0]}]}\n");
            }),
            place("3:43") +
                "error: data.train.pipeline.0: a Resize without img_scale takes its scale from the "
                "size of each image, which no step does here. Write img_scale\n"
                "1 error in the configuration");
  EXPECT_EQ(config_error([&] {
              load(
                  "data:\n  samples_per_gpu: 1\n  train: {type: CustomDataset, img_dir: [a, b], "
                  "split: [a, b, c]}\n");
            }),
            place("3:56") +
                "error: data.train.split: has 3 elements, but another list of this data set has 2\n"
                "1 error in the configuration");
}

TEST_F(OldConfig, ValuesOfOtherKindsAreErrorsOrPassedOn) {
  EXPECT_EQ(config_error([&] {
              load(
                  "data:\n  samples_per_gpu: 1\n  val: {type: CustomDataset, pipeline: "
                  "[{type: MultiScaleFlipAug, transforms: [{type: Resize}]}]}\n");
            }),
            place("3:41") +
                "error: data.val.pipeline.0: needs img_scale or img_ratios\n"
                "1 error in the configuration");
  EXPECT_EQ(config_error([&] { load("optimizer: 3\nlr_config: [4]\nrunner: {}\n"); }),
            place("1:12") + "error: optimizer: expected a mapping, got 3\n" + place("2:12") +
                "error: lr_config: expected a mapping, got [4]\n2 errors in the configuration");
  for (const char* odd :
       {"data: {samples_per_gpu: 1, train: 3, val: [4], test: {pipeline: 5}}\n",
        "data: {samples_per_gpu: {}, train: {type: RepeatDataset, dataset: [[]]}}\n",
        "data: {samples_per_gpu: 1, train: {img_dir: [], pipeline: [1, [], {type: Pad}]}}\n",
        "optimizer: {}\nfp16: {}\nrunner: {max_iters: []}\n",
        "evaluation: {metric: {}}\nlog_config: {hooks: 3}\ncustom_hooks: 5\n",
        "workflow: 1\nlog_config: {hooks: [3]}\nmodel: 3\ntest_cfg: 4\ndist_params: 5\n"}) {
    EXPECT_EQ(config_error([&] { load(odd); }), "no error") << odd;
  }
}

TEST_F(OldConfig, VariablesAreDroppedAndSlipsTold) {
  const Config tree =
      load(std::string(kShort) + "crop_size: [4, 4]\ndataset_type: A\nevaluatoin: {interval: 3}\n");
  EXPECT_EQ(flow(tree, "crop_size"), "absent");
  EXPECT_THAT(problems_.warnings_text(),
              HasSubstr(place("6:1") + "warning: evaluatoin: nothing uses this key. Did you mean "
                                       "'evaluation'?"));
  EXPECT_THAT(problems_.warnings_text(), Not(HasSubstr("dataset_type")));
}

TEST_F(OldConfig, AVariableOfOneSuchNameIsNoSign) {
  const Config tree = load(
      "optimizer: &o {type: AdamW, lr: 0.003}\noptim_wrapper: "
      "{optimizer: *o}\nlog_config: {}\n");
  EXPECT_EQ(flow(tree, "optim_wrapper"), "{optimizer: {type: AdamW, lr: 0.003}}");
  EXPECT_THAT(problems_.warnings_text(), Not(HasSubstr("0.x")));
}

}  // namespace
}  // namespace seg::test
