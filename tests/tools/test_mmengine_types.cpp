/// Runs of configs that name the rarer types of MMEngine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "segcore/io/checkpoint.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MmengineTypesInRuns : public ::testing::Test {
 protected:
  MmengineTypesInRuns() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    // The rate falls at the second validation, since no mIoU grows by 1000 points.
    dir_.write("plateau.yaml", R"(_base_: tiny.yaml
optim_wrapper: {optimizer: {_delete_: true, type: TorchAdafactor, lr: 0.004}}
param_scheduler:
- {type: ReduceOnPlateauLR, monitor: mIoU, rule: greater, factor: 0.5, patience: 0, threshold: 1000,
   threshold_rule: abs}
- {type: LinearParamScheduler, param_name: d, start_factor: 1.0, end_factor: 1.0, by_epoch: false}
train_cfg: {max_iters: 6, val_interval: 2}
default_hooks: {checkpoint: {interval: 2}}
)");
  }
  CommandResult run(const std::string& arguments) const {
    return run_program_line(dir_, arguments);
  }
  TempDir dir_;
};

std::vector<std::string> rates_of(const std::string& output) {
  std::vector<std::string> out;
  const std::regex rate(R"(Iter\(train\) +\[\d+/\d+\].* lr: (\S+))");
  for (std::sregex_iterator it(output.begin(), output.end(), rate), end; it != end; ++it) {
    out.push_back((*it)[1]);
  }
  return out;
}

TEST_F(MmengineTypesInRuns, ARateFallsOnAPlateauAlsoAfterAResume) {
  const CommandResult whole = run("train plateau.yaml --work-dir whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  EXPECT_THAT(rates_of(whole.output),
              ::testing::ElementsAre("4.0000e-03", "4.0000e-03", "4.0000e-03", "4.0000e-03",
                                     "2.0000e-03", "2.0000e-03"));
  const CommandResult first =
      run("train plateau.yaml --work-dir cut --cfg-options train_cfg.max_iters=4");
  ASSERT_EQ(first.status, 0) << first.output;
  const CommandResult second = run("train plateau.yaml --work-dir cut --resume");
  ASSERT_EQ(second.status, 0) << second.output;
  EXPECT_THAT(second.output, Not(HasSubstr("overrules the configuration")));
  EXPECT_THAT(rates_of(second.output), ::testing::ElementsAre("2.0000e-03", "2.0000e-03"));
}

TEST_F(MmengineTypesInRuns, TheListKnowsWhyATypeIsLeftOut) {
  const std::string expected =
      "list: LBFGS is left out: it computes the loss several times in a step, and an OptimWrapper "
      "computes it once, in Python too. Write AdamW or SGD";
  for (const std::string line : {"list LBFGS", "list optimizer LBFGS"}) {
    const CommandResult result = run(line);
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.output, HasSubstr(expected));
  }
}

TEST_F(MmengineTypesInRuns, AHookJoinsTheAugmentationsOfATest) {
  dir_.write("flipped.yaml", "_base_: tiny.yaml\ntest_dataloader: {dataset: " +
                                 tiny_dataset_yaml(tiny_flips_yaml()) + "}\n");
  dir_.write("joined.yaml", R"(_base_: flipped.yaml
custom_hooks: [{type: PrepareTTAHook, tta_cfg: {type: SegTTAModel}}]
)");
  dir_.write("option.yaml",
             "_base_: flipped.yaml\ntta_model: {type: SegTTAModel}\n"
             "tta_pipeline: [{type: LoadImageFromFile}, " +
                 tiny_flips_yaml() + "]\n");
  write_tiny_dataset(dir_, 3, 5, 40, 40);
  const CommandResult trained =
      run("train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=1");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const CommandResult joined = run("test joined.yaml w/iter_1.pth --work-dir j");
  ASSERT_EQ(joined.status, 0) << joined.output;
  const CommandResult option = run("test option.yaml w/iter_1.pth --work-dir o --tta");
  ASSERT_EQ(option.status, 0) << option.output;
  const auto metrics = [](const std::string& output) {
    const size_t at = output.rfind("mIoU: ");
    return at == std::string::npos ? "" : output.substr(at, 12);
  };
  EXPECT_NE(metrics(joined.output), "");
  EXPECT_EQ(metrics(joined.output), metrics(option.output));
}

}  // namespace
}  // namespace seg::test
