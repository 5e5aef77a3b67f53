/// From the file of a sweep to its runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "registry/yaml.hpp"
#include "runners/sweep/plan.hpp"
#include "tests/support/config_errors.hpp"
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
                         "  custom_hooks.EMAHook.interval: {int: [1, 2]}\n"
                         "seeds: [5, 6]\n")),
              ElementsAre("01_lr=0.1,interval=1,seed=5", "02_lr=0.1,interval=1,seed=6",
                          "03_lr=0.1,interval=2,seed=5", "04_lr=0.1,interval=2,seed=6",
                          "05_lr=0.2,interval=1,seed=5", "06_lr=0.2,interval=1,seed=6",
                          "07_lr=0.2,interval=2,seed=5", "08_lr=0.2,interval=2,seed=6"));
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

TEST_F(SweepPlan, WordsItsMessages) {
  // As if in the folder of the files.
  const auto message = [&](const std::string& yaml) {
    const std::string path = dir_.write("m.yaml", yaml);
    std::string out =
        config_error([&] { plan_sweep(load_sweep(path), SweepFolder(dir_ / "sweep")); });
    const std::string folder = dir_.path().string() + "/";
    for (size_t at; (at = out.find(folder)) != std::string::npos;) out.erase(at, folder.size());
    return out;
  };
  EXPECT_EQ(message("base: tiny.yaml\nspace: {a.b: 3}\n"),
            "m.yaml:2:14: error: space.a.b: expected a list of values, or one of {uniform: [LOW, "
            "HIGH]}, {log_uniform: [LOW, HIGH]}, {int: [LOW, HIGH]}, {choice: [VALUE, ...]}, got "
            "3\n1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nspace: {a.b: {uniform: [0, 1]}}\n"),
            "m.yaml:2:9: error: space.a.b: a grid needs single values, and this is a range. Write "
            "a list, or 'method: random' with 'trials'\n1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nspace: {a.b: {log_uniform: [0, 1]}}\nmethod: random\n"
                    "trials: 2\n"),
            "m.yaml:2:28: error: space.a.b.log_uniform: a logarithmic range must begin above 0\n"
            "1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nspace: {work_dir: [a, b]}\n"),
            "m.yaml:2:9: error: space.work_dir: is set by the sweep: each run has its own folder\n"
            "1 error in the configuration");
  EXPECT_EQ(message("base: tinny.yaml\n"),
            "tinny.yaml: error: there is no such file. Did you mean 'tiny.yaml'?\n"
            "1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nmethod: asha\nasha: {grace: 4}\n"),
            "m.yaml:3:7: error: asha.grace: runs are validated every 6 iterations "
            "(train_cfg.val_interval), and can be compared only then; 4 is no multiple of it (run "
            "01)\n1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nsbatch: {time: 1}\n"),
            "m.yaml:2:9: error: sbatch: has no effect under 'engine: local'\n"
            "1 error in the configuration");
  EXPECT_EQ(message("base: tiny.yaml\nmetric: speed\n"),
            "m.yaml:2:9: error: metric: the name 'speed' does not say whether more is better. "
            "Write 'rule: greater' or 'rule: less'\n1 error in the configuration");
  EXPECT_EQ(message(tiny_run_yaml()),
            "m.yaml:2:1: error: this is the configuration of one run; a sweep names it: 'base: "
            "m.yaml'\n1 error in the configuration");
}

/// Every file of configs/sweeps, with the config of each of its runs.
TEST(ShippedSweeps, HaveRunsThatPassTheCheckOfAllOptions) {
  const TempDir dir;
  size_t count = 0, models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("configs/sweeps"))) {
    const SweepSpec spec = load_sweep(entry.path().string());
    const auto planned = plan_sweep(spec, SweepFolder(dir / "sweep"));
    EXPECT_GE(planned.size(), spec.base.values.size()) << entry.path();
    ++count;
    models += spec.base.values.size();
  }
  EXPECT_GE(count, 4u);
  EXPECT_GE(models, 30u);
}

}  // namespace
}  // namespace seg::test
