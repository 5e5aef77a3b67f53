/// tools/sweep on this machine. Most tests let a stand-in train, whose mIoU is a formula.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/processes.hpp"
#include "tests/support/python.hpp"
#include "tests/support/stand_in_trainer.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class Sweep : public ::testing::Test {
 protected:
  Sweep() {
    setenv("OMP_NUM_THREADS", "1", 1);
    dir_.write("tiny.yaml", tiny_run_yaml());
    write_stand_in_trainer(dir_);
  }

  CommandResult sweep(const std::string& arguments) const {
    return run_command("cd " + dir_.path().string() + " && " + program_path("sweep") + " " +
                       arguments);
  }
  std::string output(const std::string& arguments) const {
    const CommandResult result = sweep(arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.output;
    return result.output;
  }
  /// A sweep in the background, in the folder of the test.
  BackgroundTool background(const std::string& arguments) const {
    return BackgroundTool(
        {"/bin/sh", "-c",
         "cd " + dir_.path().string() + " && exec " + program_path("sweep") + " " + arguments},
        dir_ / "background.txt");
  }
  std::vector<std::string> lines_of(const std::string& name) const {
    std::vector<std::string> out;
    std::istringstream in(dir_.read(name));
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }
  std::string path_of(const std::string& name) const {
    return fs::weakly_canonical(dir_ / name).string();
  }
  std::vector<pid_t> processes() const { return processes_naming(dir_.path().string() + "/"); }

  TempDir dir_;
};

/// Four combinations of two keys, two at a time, trained by the stand-in.
const char* four_runs() {
  return "base: tiny.yaml\n"
         "program: stand_in\n"
         "space:\n"
         "  optim_wrapper.optimizer.lr: [0.001, 0.01]\n"
         "  model.decode_head.channels: [8, 12]\n"
         "parallel: 2\n";
}

TEST_F(Sweep, TrainsEveryCombinationOnce) {
  dir_.write("s.yaml",
             "base: tiny.yaml\n"
             "space:\n"
             "  optim_wrapper.optimizer.lr: [0.001, 0.01]\n"
             "  train_cfg.max_iters: [6]\n"
             "  param_scheduler.1.end: [6]\n"
             "parallel: 2\n");
  const std::string printed = output("s.yaml");
  EXPECT_THAT(printed, HasSubstr("01_lr=0.001: running"));
  EXPECT_THAT(printed, HasSubstr("02_lr=0.01: ended, mIoU "));
  EXPECT_THAT(printed, EndsWith("\n2 ended\n"));
  for (const std::string run : {"01_lr=0.001", "02_lr=0.01"}) {
    EXPECT_TRUE(fs::exists(dir_ / ("work_dirs/s/runs/" + run + "/iter_6.pth")));
    EXPECT_TRUE(fs::exists(dir_ / ("work_dirs/s/runs/" + run + "/" + run + ".yaml")));
    EXPECT_THAT(dir_.read("work_dirs/s/runs/" + run + "/output.log"),
                HasSubstr("Iter(train) [6/6]"));
  }
  EXPECT_THAT(dir_.read("work_dirs/s/configs/02_lr=0.01.yaml"), HasSubstr("lr: 0.01\n"));
  EXPECT_THAT(dir_.read("work_dirs/s/runs/02_lr=0.01/overrides.yaml"),
              HasSubstr("changes:\n"
                        "  optim_wrapper.optimizer.lr: 0.01\n"
                        "  train_cfg.max_iters: 6\n"
                        "  param_scheduler.1.end: 6\n"));
  for (const char* file : {"summary.txt", "summary.csv", "summary.json"}) {
    EXPECT_TRUE(fs::exists(dir_ / (std::string("work_dirs/s/") + file))) << file;
  }
}

TEST_F(Sweep, ShowsTablesPlotsAndTheBest) {
  dir_.write("s.yaml", four_runs());
  output("s.yaml");
  const std::string table =
      "run  state   iter  eta  mIoU    at     lr  channels\n"
      "01   ended  12/12         65    12  0.001         8\n"
      "02   ended  12/12         65    12  0.001        12\n"
      "03   ended  12/12         80 *  12   0.01         8\n"
      "04   ended  12/12         80    12   0.01        12\n"
      "\n"
      "4 ended\n";
  EXPECT_EQ(output("table work_dirs/s"), table);
  EXPECT_EQ(dir_.read("work_dirs/s/summary.txt"), table);
  const std::string csv =
      "run,state,iter,max_iters,mIoU,step,optim_wrapper.optimizer.lr,model.decode_head.channels,"
      "exit_code,error\n"
      "\"01_lr=0.001,channels=8\",ended,12,12,65.0,12,0.001,8,0,\n"
      "\"02_lr=0.001,channels=12\",ended,12,12,65.0,12,0.001,12,0,\n"
      "\"03_lr=0.01,channels=8\",ended,12,12,80.0,12,0.01,8,0,\n"
      "\"04_lr=0.01,channels=12\",ended,12,12,80.0,12,0.01,12,0,\n";
  EXPECT_EQ(output("table work_dirs/s --csv"), csv);
  const auto json = nlohmann::json::parse(output("table work_dirs/s --json"));
  EXPECT_EQ(json["runs"][2]["values"]["optim_wrapper.optimizer.lr"], 0.01);
  EXPECT_EQ(json["runs"][2]["metric"], 80.0);
  EXPECT_EQ(output("status work_dirs/s"),
            path_of("work_dirs/s") +
                ": 4 ended\nbest so far: 03_lr=0.01,channels=8: mIoU 80 at iteration 12\n");
  const std::string best = output("best work_dirs/s");
  EXPECT_THAT(best, StartsWith("# 03_lr=0.01,channels=8: mIoU 80 at iteration 12\nmodel:\n"));
  dir_.write("best.yaml", best);
  EXPECT_EQ(run_command(program_path("print_config") + " --check " + dir_ / "best.yaml").status, 0);
  const std::string folder = path_of("work_dirs/s");
  EXPECT_EQ(output("plot work_dirs/s"), folder + "/curves.png\n" + folder + "/metric.png\n");
  for (const char* picture : {"work_dirs/s/curves.png", "work_dirs/s/metric.png"}) {
    EXPECT_EQ(read_image(dir_ / picture).cols, 1000);
  }
}

/// Two seeds a setting: the means decide.
TEST_F(Sweep, ComparesMeansOverSeeds) {
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nseeds: [0, 1]\n"
             "space: {optim_wrapper.optimizer.lr: [0.1, 0.01]}\nparallel: 4\n");
  output("s.yaml");
  EXPECT_EQ(output("table work_dirs/s"),
            "run  state   iter  eta  mIoU    at    lr  seed\n"
            "01   ended  12/12         65    12   0.1     0\n"
            "02   ended  12/12         65    12   0.1     1\n"
            "03   ended  12/12         80 *  12  0.01     0\n"
            "04   ended  12/12         80 *  12  0.01     1\n"
            "\n"
            "mean of mIoU  std  seeds    lr\n"
            "65              0    2/2   0.1\n"
            "80 *            0    2/2  0.01\n"
            "\n"
            "4 ended\n");
  EXPECT_THAT(output("best work_dirs/s"),
              StartsWith("# 03_lr=0.01,seed=0: mean mIoU 80 of 2 seeds, standard deviation 0\n"));
}

TEST_F(Sweep, DryRunListsWhatWouldRun) {
  dir_.write("s.yaml",
             "base: [tiny.yaml, other.yaml]\n"
             "space: {optim_wrapper.optimizer.lr: [0.1, 0.2]}\n"
             "seeds: [7]\n");
  dir_.write("other.yaml", "_base_: tiny.yaml\ntrain_cfg: {val_interval: 3}\n");
  EXPECT_EQ(output("s.yaml --dry-run --cfg-options space.optim_wrapper.optimizer.lr=[0.001]"),
            "01_tiny,seed=7\n"
            "  " +
                path_of("tiny.yaml") +
                "\n"
                "  optim_wrapper.optimizer.lr: 0.001\n"
                "  randomness.seed: 7\n"
                "02_other,seed=7\n"
                "  " +
                path_of("other.yaml") +
                "\n"
                "  optim_wrapper.optimizer.lr: 0.001\n"
                "  randomness.seed: 7\n"
                "2 runs in " +
                path_of("work_dirs/s") + ", 24 iterations\n");
  EXPECT_FALSE(fs::exists(dir_ / "work_dirs"));
}

TEST_F(Sweep, ReportsTheErrorsOfAllRunsBeforeOneStarts) {
  dir_.write("s.yaml",
             "base: tiny.yaml\n"
             "space:\n"
             "  optim_wrapper.optimizer.lr: [0.001, -1]\n"
             "  optim_wrapper.optimzer.lr: [0.001]\n"
             "  model.decode_head.channels: [8, x]\n"
             "  foo: [1]\n");
  const CommandResult result = sweep("s.yaml");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.output,
            "s.yaml:6:9: error: space.foo: nothing uses this key. (all 4 runs)\n"
            "s.yaml:4:31: error: optim_wrapper: OptimWrapper has no option 'optimzer'. Did you "
            "mean 'optimizer'? Known: optimizer, constructor, paramwise_cfg, accumulative_counts, "
            "clip_grad, cuda_graph, memory, memory_limit (all 4 runs)\n"
            "s.yaml:5:35: error: model.decode_head.channels: expected int, got 'x' (runs "
            "02_lr=0.001,channels=x, 04_lr=-1,channels=x)\n"
            "s.yaml:3:39: error: optim_wrapper.optimizer.lr: must be at least 0, got -1 (runs "
            "03_lr=-1,channels=8, 04_lr=-1,channels=x)\n"
            "4 errors in the configuration\n");
  EXPECT_FALSE(fs::exists(dir_ / "work_dirs"));
}

/// What only building shows: a head that the backbone does not fit.
TEST_F(Sweep, BuildsThePartsOfEveryRun) {
  dir_.write("s.yaml",
             "base: tiny.yaml\nspace: {model.decode_head.in_channels: [[8, 16], [8, 9]]}\n");
  const CommandResult result = sweep("s.yaml");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("s.yaml:2:50: error: model.decode_head.in_channels: is [8, 9]"));
  EXPECT_THAT(result.output, HasSubstr("(run 02_in_channels=8x9)\n"));
}

TEST_F(Sweep, RunsNothingTwice) {
  dir_.write("s.yaml", four_runs());
  output("s.yaml");
  EXPECT_EQ(lines_of("starts.txt").size(), 4u);
  EXPECT_THAT(output("s.yaml"), HasSubstr("\n4 ended\n"));
  EXPECT_EQ(lines_of("starts.txt").size(), 4u);
  // Further values are further runs.
  EXPECT_THAT(output("s.yaml --cfg-options space.optim_wrapper.optimizer.lr=[0.001,0.01,0.1]"),
              HasSubstr("\n6 ended\n"));
  EXPECT_EQ(lines_of("starts.txt").size(), 6u);
  EXPECT_TRUE(fs::exists(dir_ / "work_dirs/s/runs/05_lr=0.1,channels=8"));
}

TEST_F(Sweep, AnotherSweepDoesNotFitIntoAFolder) {
  dir_.write("s.yaml", four_runs());
  output("s.yaml");
  dir_.write("other.yaml",
             "base: tiny.yaml\nprogram: stand_in\nspace: {optim_wrapper.optimizer.lr: [0.3]}\n");
  const CommandResult result = sweep("other.yaml --work-dir work_dirs/s");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.output,
            "error: " + path_of("work_dirs/s") +
                " holds another sweep: this one has no run with the config of "
                "01_lr=0.001,channels=8. Give this one another --work-dir, or delete "
                "that folder\n");
  EXPECT_EQ(lines_of("starts.txt").size(), 4u);
}

TEST_F(Sweep, ASecondStartAtTheSameTimeIsRefused) {
  dir_.write("hold", "");
  dir_.write("s.yaml", four_runs());
  BackgroundTool first = background("s.yaml");
  ASSERT_TRUE(first.wait_for(": running"));
  for (const char* command : {"s.yaml", "retry work_dirs/s"}) {
    const CommandResult second = sweep(command);
    EXPECT_EQ(second.status, 1);
    EXPECT_EQ(second.output, "error: the sweep in " + path_of("work_dirs/s") +
                                 " is being run by another process: 'sweep table " +
                                 path_of("work_dirs/s") + "' shows it\n");
  }
  EXPECT_THAT(output("status work_dirs/s"), HasSubstr(" running"));
  fs::remove(dir_ / "hold");
  EXPECT_EQ(first.wait(), 0) << first.output();
  EXPECT_EQ(lines_of("starts.txt").size(), 4u);
}

TEST_F(Sweep, ReportsFailedRunsAndRetriesThem) {
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\n"
             "space: {optim_wrapper.optimizer.lr: [0.01, 0.9]}\n");
  dir_.write("broken", "");
  const CommandResult first = sweep("s.yaml");
  EXPECT_EQ(first.status, 1);
  EXPECT_THAT(first.output, HasSubstr("1 of 2 runs failed:\n"
                                      "  02_lr=0.9: error: the folder data/lost does not exist\n"
                                      "'sweep retry " +
                                      path_of("work_dirs/s") + "' runs them again\n"));
  // Neither kind is run again by the same command.
  EXPECT_EQ(sweep("s.yaml").status, 1);
  EXPECT_THAT(lines_of("starts.txt"), ElementsAre("01_lr=0.01", "02_lr=0.9"));
  EXPECT_EQ(output("status work_dirs/s"),
            path_of("work_dirs/s") +
                ": 1 ended, 1 failed\n"
                "best so far: 01_lr=0.01: mIoU 80 at iteration 12\n"
                "1 of 2 runs failed:\n"
                "  02_lr=0.9: error: the folder data/lost does not exist\n");
  fs::remove(dir_ / "broken");
  EXPECT_THAT(output("retry work_dirs/s"), HasSubstr("\n2 ended\n"));
  EXPECT_THAT(lines_of("starts.txt"), ElementsAre("01_lr=0.01", "02_lr=0.9", "02_lr=0.9"));
}

TEST_F(Sweep, ASignalStopsAllRunsWithACheckpoint) {
  dir_.write("hold", "");
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nparallel: 2\n"
             "space: {optim_wrapper.optimizer.lr: [0.001, 0.01, 0.1]}\n");
  BackgroundTool first = background("s.yaml");
  while (first.running() && lines_of("iterations.txt").size() < 12) usleep(10000);
  first.send(SIGTERM);
  EXPECT_EQ(first.wait(), 20);
  EXPECT_THAT(first.output(), EndsWith("error: stopped by SIGTERM; 2 stopped, 1 queued; the same "
                                       "command continues\n"));
  EXPECT_TRUE(processes().empty());
  fs::remove(dir_ / "hold");
  EXPECT_THAT(output("s.yaml"), HasSubstr("\n3 ended\n"));
  EXPECT_EQ(lines_of("starts.txt").size(), 5u);
  // Each iteration once: those before the stop were not done again.
  EXPECT_EQ(lines_of("iterations.txt").size(), 36u);
}

/// Before any run has begun, too: nothing failed.
TEST_F(Sweep, ASignalAtTheBeginningStopsIt) {
  dir_.write("s.yaml", four_runs());
  BackgroundTool first = background("s.yaml");
  ASSERT_TRUE(first.wait_for(": running"));
  first.send(SIGINT);
  EXPECT_EQ(first.wait(), 20);
  EXPECT_THAT(output("status work_dirs/s"), Not(HasSubstr("failed")));
  EXPECT_THAT(output("s.yaml"), HasSubstr("\n4 ended\n"));
}

TEST_F(Sweep, ARunThatSomebodyStopsStaysStopped) {
  dir_.write("hold", "");
  dir_.write("s.yaml", "base: tiny.yaml\nprogram: stand_in\n");
  BackgroundTool first = background("s.yaml");
  while (first.running() && lines_of("iterations.txt").size() < 6) usleep(10000);
  const auto training = processes_naming(path_of("work_dirs/s/runs/01"));
  ASSERT_EQ(training.size(), 1u);
  kill(training[0], SIGTERM);
  EXPECT_EQ(first.wait(), 20) << first.output();
  fs::remove(dir_ / "hold");
  EXPECT_THAT(first.output(),
              EndsWith("error: 1 run was stopped by signals; the same command continues\n"));
  EXPECT_THAT(output("s.yaml"), HasSubstr("\n1 ended\n"));
  EXPECT_EQ(lines_of("iterations.txt").size(), 12u);
}

/// Two runs at a time, since there are GPUs for two.
TEST_F(Sweep, SharesOutTheGpus) {
  setenv("CUDA_VISIBLE_DEVICES", "0,1,5,7", 1);
  dir_.write("hold", "");
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\ngpus_per_run: 2\ntrain_args: [--amp]\n"
             "space: {optim_wrapper.optimizer.lr: [0.001, 0.01, 0.1]}\n");
  BackgroundTool tool = background("s.yaml");
  while (tool.running() && lines_of("iterations.txt").size() < 12) usleep(10000);
  EXPECT_THAT(lines_of("gpus.txt"),
              UnorderedElementsAre("0,1 --nproc gpu --amp", "5,7 --nproc gpu --amp"));
  fs::remove(dir_ / "hold");
  EXPECT_EQ(tool.wait(), 0) << tool.output();
  unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST_F(Sweep, ABudgetEndsIt) {
  dir_.write("s.yaml", four_runs() + std::string("budget: {iterations: 30}\n"));
  const std::string printed = output("s.yaml");
  EXPECT_THAT(printed,
              HasSubstr("the budget of 30 iterations is used up: no more runs are started"));
  EXPECT_THAT(printed, EndsWith("\n3 ended, 1 queued\n"));
  EXPECT_THAT(output("s.yaml --cfg-options budget.iterations=100"), HasSubstr("\n4 ended\n"));
}

/// Killed at ten random moments, every other time with all of its runs, a sweep comes to the table
/// of one that was never killed.
TEST_F(Sweep, SurvivesItsOwnKill) {
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nparallel: 3\nspace:\n"
             "  optim_wrapper.optimizer.lr: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]\n"
             "  train_cfg.val_interval: [2]\n"
             "  train_cfg.max_iters: [60]\n");
  output("s.yaml --work-dir whole");
  fs::remove(dir_ / "iterations.txt");
  setenv("STAND_IN_PAUSE", "0.1", 1);
  std::mt19937 random(11);
  for (int kill_number = 0; kill_number < 10; ++kill_number) {
    const size_t before = lines_of("iterations.txt").size();
    const size_t until = before + std::uniform_int_distribution<size_t>(0, 25)(random);
    BackgroundTool tool = background("s.yaml --work-dir killed");
    while (tool.running() && lines_of("iterations.txt").size() <= until) usleep(10000);
    tool.send(SIGKILL);
    tool.wait();
    if (kill_number % 2 == 0) continue;
    for (const pid_t pid : processes()) kill(pid, SIGKILL);
  }
  EXPECT_THAT(output("status killed"), Not(HasSubstr(": 6 ended")));
  setenv("STAND_IN_PAUSE", "0.01", 1);
  output("s.yaml --work-dir killed");
  unsetenv("STAND_IN_PAUSE");
  EXPECT_EQ(output("table killed --csv"), output("table whole --csv"));
  // Most iterations were done once: runs continued, and those that outlived the sweep were waited
  // for. At each of the five kills of all, three runs lost at most the five since a checkpoint.
  EXPECT_LE(lines_of("iterations.txt").size(), 6 * 60u + 5 * 3 * 5u);
}

/// Twelve runs of 729 iterations: as a grid 8748.
TEST_F(Sweep, SuccessiveHalvingFindsTheBestWithAThirdOfTheIterations) {
  setenv("STAND_IN_PAUSE", "0.4", 1);  // longer than a decision takes on a busy machine
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nparallel: 3\nspace:\n"
             "  optim_wrapper.optimizer.lr: [1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, "
             "0.9, 0.5, 0.2, 0.1, 0.04, 0.012]\n"
             "  train_cfg.val_interval: [27]\n"
             "  train_cfg.max_iters: [729]\n"
             "method: asha\n"
             "asha: {grace: 27}\n");
  const std::string printed = output("s.yaml");
  unsetenv("STAND_IN_PAUSE");
  EXPECT_THAT(output("status work_dirs/s"),
              HasSubstr("best so far: 12_lr=0.012: mIoU 78.8123 at iteration 729\n"))
      << printed;
  EXPECT_THAT(printed, HasSubstr(": paused, mIoU "));
  EXPECT_LT(lines_of("iterations.txt").size(), 12 * 729u / 3);
  // Promoted runs went on from their checkpoints: no iteration was done twice.
  std::map<std::string, size_t> counts;
  for (const std::string& run : lines_of("iterations.txt")) ++counts[run];
  EXPECT_EQ(counts["12_lr=0.012"], 729u);
}

/// Small file systems that fill up, before the first run starts and while runs are running. When
/// there is room again, the sweep goes on.
TEST_F(Sweep, AFullDiskIsReportedAndLosesNothing) {
  dir_.write("s.yaml",
             "base: tiny.yaml\nprogram: stand_in\nparallel: 2\n"
             "space: {optim_wrapper.optimizer.lr: [0.001, 0.01]}\n");
  const std::string disk = dir_ / "disk";
  fs::create_directory(disk);
  const auto mount = [&](const std::string& size) {
    return "mount -t tmpfs -o size=" + size + " none " + disk;
  };
  if (run_command("unshare -m sh -c '" + mount("16k") + "'").status != 0) {
    GTEST_SKIP() << "file systems cannot be mounted here";
  }
  const std::string line = program_path("sweep") + " s.yaml --work-dir " + disk + "/s";
  for (const char* size : {"16k", "48k"}) {
    const CommandResult result = run_command(
        "cd " + dir_.path().string() + " && unshare -m sh -c '" + mount(size) + " && " + line +
        "; echo code $?; mount -o remount,size=64m none " + disk + " && { " + line + "; " +
        program_path("sweep") + " retry " + disk + "/s; }; echo code $?'");
    EXPECT_THAT(result.output, HasSubstr("No space left on device")) << size;
    EXPECT_THAT(result.output, HasSubstr("code 1\n")) << size;
    EXPECT_THAT(result.output, EndsWith("\n2 ended\ncode 0\n")) << size;
  }
}

TEST_F(Sweep, WordsItsMessages) {
  dir_.write("m.yaml", "base: tiny.yaml\n");
  EXPECT_EQ(sweep("table nowhere").output, "error: nowhere does not exist\n");
  EXPECT_EQ(sweep("table .").output,
            "error: . is not the folder of a sweep: it has no sweep.yaml\n");
  EXPECT_EQ(sweep("tabel work_dirs").output,
            "sweep: there is no command 'tabel'. Did you mean 'table'? Known: status, table, plot, "
            "best, retry, summary, run (see sweep --help)\n");
  EXPECT_EQ(sweep("m.yaml --csv").output,
            "sweep: --csv is for 'sweep table DIR' (see sweep --help)\n");
}

/// The files of docs/sweeps.md, beside configs/ as they are meant to lie.
TEST_F(Sweep, TheFilesOfTheDocumentAreRight) {
  std::ifstream in(source_path("docs/sweeps.md"));
  const std::string document{std::istreambuf_iterator<char>(in), {}};
  fs::create_directory_symlink(source_path("configs"), dir_ / "configs");
  const std::string open = "```yaml\n# ";
  size_t count = 0;
  for (size_t at = 0; (at = document.find(open, at)) != std::string::npos; ++count) {
    at += open.size();
    const size_t name_end = document.find('\n', at);
    const std::string name = document.substr(at, name_end - at);
    dir_.write(name, document.substr(name_end, document.find("```", at) - name_end));
    EXPECT_THAT(output(name + " --dry-run"), HasSubstr(" iterations")) << name;
  }
  EXPECT_EQ(count, 3u);
}

TEST_F(Sweep, SchemaIsThatOfSweeps) {
  const auto schema = nlohmann::json::parse(run_command(program_path("schema") + " sweep").output);
  EXPECT_EQ(schema["title"], "Sweep of segcore");
  for (const char* key : {"base", "space", "method", "seeds", "metric", "budget", "engine"}) {
    EXPECT_TRUE(schema["properties"].contains(key)) << key;
  }
  EXPECT_FALSE(schema["properties"].contains("model"));
}

}  // namespace
}  // namespace seg::test
