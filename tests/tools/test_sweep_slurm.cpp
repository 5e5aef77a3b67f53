/// tools/sweep with a real Slurm, which the tests start and stop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <sstream>

#include "registry/text.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/processes.hpp"
#include "tests/support/python.hpp"
#include "tests/support/slurm_cluster.hpp"
#include "tests/support/stand_in_trainer.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

/// The row of a run that has done half of its twelve iterations, where it is held.
constexpr const char* kBegun = " running +([6-9]|10|11)/12";

class SweepOnSlurm : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string problem = SlurmCluster::problem(); !problem.empty()) {
      GTEST_SKIP() << problem;
    }
    setenv("OMP_NUM_THREADS", "1", 1);
    dir_.write("tiny.yaml", tiny_run_yaml());
    write_stand_in_trainer(dir_);
    cluster_ = std::make_unique<SlurmCluster>();
    ASSERT_TRUE(cluster_->is_up()) << cluster_->log();
  }
  void TearDown() override { unsetenv("STAND_IN_PAUSE"); }

  std::string sweep(const std::string& arguments, int status = 0) const {
    const CommandResult result = run_command("cd " + dir_.path().string() + " && " +
                                             program_path("sweep") + " " + arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.output;
    return result.output;
  }
  /// Waits for the end of all jobs.
  bool queue_is_empty() const {
    return SlurmCluster::wait_until([] {
      SlurmCluster::release_held_tasks();
      return run_command("squeue -h").output.empty();
    });
  }
  size_t count_of(const std::string& file, const std::string& line) const {
    std::istringstream in(dir_.read(file));
    size_t count = 0;
    for (std::string one; std::getline(in, one);) count += one == line ? 1 : 0;
    return count;
  }
  /// Waits until the table of a sweep has a match.
  bool wait_for_table(const std::string& expression, const std::string& folder = "s") const {
    return SlurmCluster::wait_until([&] {
      return std::regex_search(sweep("table work_dirs/" + folder), std::regex(expression));
    });
  }

  TempDir dir_;
  std::unique_ptr<SlurmCluster> cluster_;
};

/// Of six runs some are preempted, some meet a node that fails, and one has an error.
TEST_F(SweepOnSlurm, GoesThroughPreemptionAFailedNodeAndAnError) {
  dir_.write("broken", "");
  dir_.write("hold", "");
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nengine: slurm\n"
             "sbatch: {partition: low, time: '10'}\nspace:\n"
             "  optim_wrapper.optimizer.lr: [0.001, 0.003, 0.9, 0.01, 0.03, 0.1]\n"
             "  train_cfg.val_interval: [1]\n");
  EXPECT_THAT(sweep("s.yaml"),
              HasSubstr("submitted 6 runs as job 1, and job 2 that writes the summary after them"));
  EXPECT_THAT(sweep("s.yaml"), HasSubstr("nothing is left to submit: 6 runs are in the queue"));
  ASSERT_TRUE(wait_for_table(kBegun)) << sweep("table work_dirs/s") << cluster_->log();

  EXPECT_EQ(run_command("sbatch -p high -n 3 --output=/dev/null --wrap true").status, 0);
  ASSERT_TRUE(wait_for_table(" stopped ")) << sweep("table work_dirs/s") << cluster_->log();
  ASSERT_TRUE(wait_for_table(" failed ")) << sweep("table work_dirs/s") << cluster_->log();
  ASSERT_TRUE(wait_for_table(kBegun)) << sweep("table work_dirs/s") << cluster_->log();
  const std::string node = "scontrol update NodeName=" + cluster_->host();
  EXPECT_EQ(run_command(node + " State=DOWN Reason=test").status, 0);
  ASSERT_TRUE(
      SlurmCluster::wait_until([&] { return processes_naming(dir_ / "work_dirs").empty(); }));
  fs::remove(dir_ / "hold");
  // It may have come back by itself.
  run_command(node + " State=RESUME");

  ASSERT_TRUE(queue_is_empty()) << run_command("squeue").output << cluster_->log();
  const std::string table =
      "run   state   iter  eta   mIoU    at     lr\n"
      "01    ended  12/12          65    12  0.001\n"
      "02    ended  12/12       72.16    12  0.003\n"
      "03   failed   0/12                      0.9\n"
      "04    ended  12/12          80 *  12   0.01\n"
      "05    ended  12/12       72.84    12   0.03\n"
      "06    ended  12/12          65    12    0.1\n"
      "\n"
      "5 ended, 1 failed\n";
  EXPECT_EQ(sweep("table work_dirs/s"), table);
  EXPECT_EQ(dir_.read("work_dirs/s/summary.txt"),
            table +
                "1 of 6 runs failed:\n"
                "  03_lr=0.9: error: the folder data/lost does not exist\n");
  EXPECT_TRUE(fs::exists(dir_ / "work_dirs/s/metric.png"));

  // A second start has nothing to do; the failed one is run again when asked for.
  const std::string starts = dir_.read("starts.txt");
  EXPECT_THAT(sweep("s.yaml"), HasSubstr("nothing is left to do"));
  EXPECT_TRUE(run_command("squeue -h").output.empty());
  EXPECT_EQ(dir_.read("starts.txt"), starts);
  EXPECT_EQ(count_of("starts.txt", "03_lr=0.9"), 1u);
  fs::remove(dir_ / "broken");
  EXPECT_THAT(sweep("retry work_dirs/s"), HasSubstr("submitted 1 run as job "));
  ASSERT_TRUE(queue_is_empty());
  EXPECT_THAT(sweep("table work_dirs/s"), EndsWith("\n6 ended\n"));
}

/// Warned of the end of its time, a task saves, and has itself queued again.
TEST_F(SweepOnSlurm, QueuesATaskAgainWhoseTimeEnds) {
  dir_.write("hold", "");
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nengine: slurm\nspace:\n"
             "  optim_wrapper.optimizer.lr: [0.01]\n"
             "  train_cfg.val_interval: [1]\n");
  sweep("s.yaml");
  ASSERT_TRUE(wait_for_table(kBegun)) << sweep("table work_dirs/s") << cluster_->log();
  EXPECT_EQ(run_command("scancel --batch --signal=USR1 1_1").status, 0);
  ASSERT_TRUE(wait_for_table(" stopped ")) << sweep("table work_dirs/s") << cluster_->log();
  fs::remove(dir_ / "hold");
  ASSERT_TRUE(queue_is_empty()) << run_command("squeue").output << cluster_->log();
  EXPECT_THAT(sweep("table work_dirs/s"), EndsWith("\n1 ended\n"));
  EXPECT_EQ(count_of("starts.txt", "01"), 2u);
  EXPECT_EQ(count_of("iterations.txt", "01"), 12u);

  // One that was cancelled is not.
  dir_.write("t.yaml", dir_.read("s.yaml"));
  dir_.write("hold", "");
  sweep("t.yaml --work-dir work_dirs/t");
  ASSERT_TRUE(wait_for_table(kBegun, "t")) << sweep("table work_dirs/t") << cluster_->log();
  EXPECT_EQ(run_command("scancel --me").status, 0);
  ASSERT_TRUE(queue_is_empty()) << run_command("squeue").output;
  EXPECT_THAT(sweep("table work_dirs/t"), EndsWith("\n1 stopped\n"));
}

/// The tasks themselves decide at rungs, and submit those that go on.
TEST_F(SweepOnSlurm, HalvesSuccessively) {
  setenv("STAND_IN_PAUSE", "0.15", 1);
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nengine: slurm\nspace:\n"
             "  optim_wrapper.optimizer.lr: [1.0e-4, 1.0e-3, 0.01, 0.1]\n"
             "  train_cfg: {val_interval: [10], max_iters: [40]}\n"
             "method: asha\nasha: {grace: 10, eta: 2}\n");
  sweep("s.yaml");
  ASSERT_TRUE(queue_is_empty()) << run_command("squeue").output << cluster_->log();
  EXPECT_THAT(sweep("status work_dirs/s"),
              HasSubstr("best so far: 03_lr=0.01: mIoU 80 at iteration 40\n"));
  EXPECT_THAT(sweep("table work_dirs/s"), HasSubstr(" paused"));
  EXPECT_EQ(count_of("iterations.txt", "03_lr=0.01"), 40u);
}

}  // namespace
}  // namespace seg::test
