/// From the file of a sweep to its runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "registry/yaml.hpp"
#include "runners/start/run_config.hpp"
#include "runners/sweep/asha.hpp"
#include "runners/sweep/plan.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;

class SweepPlan : public ::testing::Test {
 protected:
  SweepPlan() { dir_.write("tiny.yaml", tiny_run_yaml()); }

  std::vector<PlannedRun> plan(const std::string& yaml) const {
    const SweepSpec spec = load_sweep(dir_.write("s.yaml", "base: tiny.yaml\n" + yaml));
    return plan_sweep(spec, SweepFolder(dir_ / "sweep"));
  }
  static std::vector<std::string> names(const std::vector<PlannedRun>& planned) {
    std::vector<std::string> out;
    for (const PlannedRun& one : planned) out.push_back(one.run.name);
    return out;
  }

  TempDir dir_;
};

TEST_F(SweepPlan, AGridIsEveryCombinationWithEverySeed) {
  EXPECT_THAT(names(plan("space:\n"
                         "  optim_wrapper.optimizer.lr: [0.1, 0.2]\n"
                         "  custom_hooks.EMAHook.momentum: {int: [0, 1]}\n"
                         "seeds: [5, 6]\n")),
              ElementsAre("01_lr=0.1,momentum=0,seed=5", "02_lr=0.1,momentum=0,seed=6",
                          "03_lr=0.1,momentum=1,seed=5", "04_lr=0.1,momentum=1,seed=6",
                          "05_lr=0.2,momentum=0,seed=5", "06_lr=0.2,momentum=0,seed=6",
                          "07_lr=0.2,momentum=1,seed=5", "08_lr=0.2,momentum=1,seed=6"));
}

TEST_F(SweepPlan, AListNamesItsRuns) {
  const auto planned = plan(
      "method: list\n"
      "space:\n"
      "- {optim_wrapper.optimizer.lr: 0.1, train_cfg.max_iters: 12}\n"
      "- {optim_wrapper.optimizer.lr: 0.1}\n"
      "- {optim_wrapper.optimizer: {_delete_: true, type: SGD, lr: 0.2}}\n");
  // The first two come to one config.
  EXPECT_THAT(names(planned), ElementsAre("01_lr=0.1,max_iters=12", "02_optimizer=SGD"));
  const Config tree = parse_config(planned[1].config);
  EXPECT_EQ(dump_flow(*tree.at_path("optim_wrapper.optimizer")), "{type: SGD, lr: 0.2}");
}

TEST_F(SweepPlan, TrialsAreDrawnAndCanBeAdded) {
  const std::string space = "space: {optim_wrapper.optimizer.lr: {log_uniform: [0.001, 0.1]}}\n";
  const auto few = names(plan(space + "method: random\ntrials: 3\n"));
  const auto more = names(plan(space + "method: random\ntrials: 5\n"));
  ASSERT_EQ(few.size(), 3u);
  ASSERT_EQ(more.size(), 5u);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), more.begin()));
  EXPECT_NE(names(plan(space + "method: random\ntrials: 3\nseed: 1\n")), few);
}

TEST_F(SweepPlan, TheSweepMayHaveABaseOfItsOwn) {
  dir_.write("parts/grid.yaml",
             "base: ../tiny.yaml\nspace: {optim_wrapper.optimizer.lr: [0.1]}\nmetric: aAcc\n");
  const SweepSpec spec =
      load_sweep(dir_.write("s.yaml", "_base_: parts/grid.yaml\nmetric: mIoU\n"));
  EXPECT_EQ(spec.metric, "mIoU");
  EXPECT_EQ(spec.base.values,
            std::vector<std::string>{std::filesystem::path(dir_ / "tiny.yaml").string()});
}

/// Every file of configs/sweeps, with the config of each of its runs.
TEST(ShippedSweeps, HaveRunsThatPassTheCheckOfAllOptions) {
  size_t count = 0, models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("configs/sweeps"))) {
    const SweepSpec spec = load_sweep(entry.path().string());
    ++count;
    for (const std::string& base : spec.base.values) {
      std::vector<std::string> overrides;
      for (const SweepDimension& dimension : spec.space.dimensions) {
        overrides.push_back(dimension.key + "=" + dimension.draw(0, 0).scalar);
      }
      const RunConfig config = load_run_config(base, overrides);
      if (spec.uses_asha()) {
        Diagnostics problems;
        check_rungs(spec, config, problems);
        EXPECT_EQ(problems.has_errors(), false) << problems.text();
      }
      ++models;
    }
  }
  EXPECT_GE(count, 4u);
  EXPECT_GE(models, 30u);
}

}  // namespace
}  // namespace seg::test
