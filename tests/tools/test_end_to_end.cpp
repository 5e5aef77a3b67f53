/// The programs as people run them: train, stop, resume, test; and killed at any moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

std::string end_to_end_tool(const std::string& name) { return program_path(name); }

/// A program in the background.
class BackgroundTool {
 public:
  BackgroundTool(const std::vector<std::string>& words, const std::string& output) {
    pid_ = fork();
    if (pid_ != 0) return;
    if (!freopen(output.c_str(), "a", stdout) || !freopen(output.c_str(), "a", stderr)) _exit(126);
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  void send(int signal) const { kill(pid_, signal); }
  /// The exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  bool running() const {
    return waitid(P_PID, static_cast<id_t>(pid_), &info_, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info_.si_pid == 0;
  }

 private:
  pid_t pid_ = 0;
  mutable siginfo_t info_{};
};

/// The rows of the newest scalars.json with a loss, by step.
std::vector<double> logged_losses(const fs::path& work_dir) {
  std::vector<double> out;
  for (const auto& entry : fs::recursive_directory_iterator(work_dir)) {
    if (entry.path().filename() != "scalars.json") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto row = nlohmann::json::parse(line);
      if (row.contains("loss")) out.push_back(row["loss"]);
    }
  }
  return out;
}

class EndToEnd : public ::testing::Test {
 protected:
  EndToEnd() {
    setenv("OMP_NUM_THREADS", "1", 1);
    config_ = dir_.write("tiny.yaml", tiny_run_yaml());
  }
  CommandResult train(const std::string& work_dir, const std::string& more = "") const {
    return run_command(end_to_end_tool("train") + " " + config_ + " --work-dir " + dir_ / work_dir +
                       " " + more);
  }
  Value checkpoint(const std::string& path) const { return read_checkpoint(dir_ / path); }
  static void expect_same_run(const Value& a, const Value& b) {
    for (const char* key : {"state_dict", "optimizer", "param_schedulers", "ema_state_dict"}) {
      EXPECT_EQ(first_difference(a.at(key), b.at(key), key), "");
    }
    EXPECT_EQ(first_difference(a.at("segcore").at("generators"), b.at("segcore").at("generators")),
              "");
  }

  TempDir dir_;
  std::string config_;
};

TEST_F(EndToEnd, TrainsTestsAndLeavesTheFilesThatPeopleKnow) {
  const CommandResult trained = train("w");
  ASSERT_EQ(trained.status, 0) << trained.output;
  EXPECT_THAT(trained.output, HasSubstr("Iter(train) [ 1/12]"));
  EXPECT_THAT(trained.output, HasSubstr("Saving checkpoint at 4 iterations"));
  EXPECT_THAT(trained.output, HasSubstr("The best checkpoint with"));
  for (const char* file : {"w/tiny.yaml", "w/last_checkpoint", "w/iter_4.pth", "w/iter_12.pth"}) {
    EXPECT_TRUE(fs::exists(dir_ / file)) << file;
  }
  EXPECT_EQ(dir_.read("w/last_checkpoint"), dir_ / "w/iter_12.pth");
  int best = 0, launches = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / "w")) {
    const std::string name = entry.path().filename().string();
    best += name.starts_with("best_mIoU_iter_") ? 1 : 0;
    if (!entry.is_directory()) continue;
    ++launches;
    for (const auto& file : {name + ".log", std::string("vis_data/scalars.json"),
                             "vis_data/" + name + ".json", std::string("vis_data/config.yaml")}) {
      EXPECT_TRUE(fs::exists(entry.path() / file)) << file;
    }
  }
  EXPECT_EQ(best, 1);
  EXPECT_EQ(launches, 1);

  const CommandResult tested = run_command(
      end_to_end_tool("test") + " " + config_ + " " + dir_ / "w/iter_12.pth" + " --work-dir " +
      dir_ / "t" + " --out " + dir_ / "ids" + " --show-dir " + dir_ / "pictures");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr("Iter(test) [3/3]"));
  EXPECT_FALSE(fs::exists(dir_ / "t/tiny.yaml"));
  bool result = false;
  for (const auto& entry : fs::directory_iterator(dir_ / "t")) {
    const fs::path file = entry.path() / (entry.path().filename().string() + ".json");
    if (!fs::exists(file)) continue;
    std::ifstream in(file);
    result = nlohmann::json::parse(in).contains("mIoU");
  }
  EXPECT_TRUE(result);
  const auto count = [&](const std::string& folder) {
    return std::distance(fs::directory_iterator(dir_ / folder), fs::directory_iterator());
  };
  EXPECT_EQ(count("ids"), 5);
  EXPECT_EQ(count("pictures"), 5);
}

TEST_F(EndToEnd, SameSeedGivesTheSameLossesToTheLastDigit) {
  ASSERT_EQ(train("a").status, 0);
  ASSERT_EQ(train("b", "--cfg-options train_dataloader.num_workers=0").status, 0);
  const auto a = logged_losses(dir_ / "a"), b = logged_losses(dir_ / "b");
  EXPECT_EQ(a.size(), 12u);
  EXPECT_EQ(a, b);
  expect_same_run(checkpoint("a/iter_12.pth"), checkpoint("b/iter_12.pth"));
}

TEST_F(EndToEnd, StopsAtASignalAndGoesOnAsIfNothingHadBeen) {
  const std::string more = "--cfg-options train_cfg.max_iters=60 param_scheduler.1.end=60";
  ASSERT_EQ(train("whole", more).status, 0);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string name = signal == SIGTERM ? "term" : "int";
    BackgroundTool tool({end_to_end_tool("train"), config_, "--work-dir", dir_ / name,
                         "--cfg-options", "train_cfg.max_iters=60", "param_scheduler.1.end=60"},
                        dir_ / (name + ".txt"));
    // As soon as the first steps are logged.
    while (tool.running() &&
           dir_.read(name + ".txt").find("Iter(train) [ 3/60]") == std::string::npos) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    tool.send(signal);
    ASSERT_EQ(tool.wait(), 20) << dir_.read(name + ".txt");
    EXPECT_THAT(dir_.read(name + ".txt"),
                HasSubstr(signal == SIGTERM ? "stopped by SIGTERM after iteration"
                                            : "stopped by SIGINT after iteration"));
    const CommandResult resumed = train(name, "--resume " + more);
    ASSERT_EQ(resumed.status, 0) << resumed.output;
    EXPECT_THAT(resumed.output, HasSubstr("resumed from"));
    expect_same_run(checkpoint("whole/iter_60.pth"), checkpoint(name + "/iter_60.pth"));
  }
}

TEST_F(EndToEnd, KilledAtAnyMomentEndsWithTheVeryWeightsOfTheRunNeverKilled) {
  const std::vector<std::string> changes{"--cfg-options",
                                         "train_cfg.max_iters=80",
                                         "param_scheduler.1.end=80",
                                         "train_cfg.val_interval=10",
                                         "default_hooks.checkpoint.interval=3",
                                         "default_hooks.checkpoint.max_keep_ckpts=3"};
  std::vector<std::string> words{end_to_end_tool("train"), config_, "--work-dir", dir_ / "whole"};
  words.insert(words.end(), changes.begin(), changes.end());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(BackgroundTool(words, dir_ / "whole.txt").wait(), 0) << dir_.read("whole.txt");
  double whole_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  words[3] = dir_ / "killed";
  words.insert(words.begin() + 4, "--resume");
  // Any seed will do: the end must be the same.
  std::mt19937 random(20);
  std::uniform_real_distribution<double> moment(0.3, 1.0);
  int kills = 0;
  for (int round = 0; round < 40; ++round) {
    BackgroundTool tool(words, dir_ / "killed.txt");
    if (kills < 6) {
      std::this_thread::sleep_for(std::chrono::duration<double>(whole_s * moment(random)));
      tool.send(SIGKILL);
    }
    const int code = tool.wait();
    if (code == 0 && kills == 0) {
      // Faster than the run that was timed: again, with less patience.
      whole_s /= 2;
      fs::remove_all(dir_ / "killed");
      continue;
    }
    if (code == 0) break;
    ASSERT_EQ(code, -SIGKILL) << dir_.read("killed.txt");
    ++kills;
  }
  EXPECT_GE(kills, 1);
  expect_same_run(checkpoint("whole/iter_80.pth"), checkpoint("killed/iter_80.pth"));
}

TEST_F(EndToEnd, ALossThatIsNotFiniteEndsTheRunWith21) {
  const CommandResult result = train("w",
                                     "--cfg-options optim_wrapper.optimizer.lr=1e30 "
                                     "optim_wrapper.clip_grad=None");
  EXPECT_EQ(result.status, 21) << result.output;
  EXPECT_THAT(result.output, HasSubstr("the loss is not finite at iteration"));
}

TEST_F(EndToEnd, DamagedCheckpointsArePassedOverOrTold) {
  ASSERT_EQ(train("w").status, 0);
  fs::resize_file(dir_ / "w/iter_12.pth", fs::file_size(dir_ / "w/iter_12.pth") / 2);
  const CommandResult resumed = train("w", "--resume");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("this checkpoint is passed over"));
  EXPECT_THAT(resumed.output, HasSubstr("resumed from " + dir_ / "w/iter_8.pth"));

  const std::string cut = dir_.write("cut.pth", "PK\x03\x04 and then nothing");
  for (const std::string& command :
       {"train " + config_ + " --work-dir " + dir_ / "x" + " --resume " + cut,
        "test " + config_ + " " + cut + " --work-dir " + dir_ / "x",
        "test " + config_ + " " + dir_ / "none.pth" + " --work-dir " + dir_ / "x"}) {
    const CommandResult result = run_command(end_to_end_tool(command));
    EXPECT_EQ(result.status, 1) << result.output;
    EXPECT_THAT(result.output, HasSubstr("error: "));
    EXPECT_THAT(result.output, HasSubstr(".pth"));
  }
  EXPECT_FALSE(fs::exists(dir_ / "x"));
}

TEST_F(EndToEnd, WeightsThatDoNotFitGiveExitCode3) {
  ASSERT_EQ(train("w").status, 0);
  const std::string other = config_ + " " + dir_ / "w/iter_12.pth" + " --work-dir " + dir_ / "t" +
                            " --cfg-options model.decode_head.channels=16";
  const CommandResult result = run_command(end_to_end_tool("test") + " " + other);
  EXPECT_EQ(result.status, 3) << result.output;
  EXPECT_THAT(result.output, HasSubstr("the weights do not fit the model"));
}

TEST_F(EndToEnd, AMovedWorkDirStillResumes) {
  ASSERT_EQ(train("w").status, 0);
  fs::rename(dir_ / "w", dir_ / "moved");
  const CommandResult resumed =
      train("moved", "--resume --cfg-options train_cfg.max_iters=14 param_scheduler.1.end=14");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("resumed from " + dir_ / "moved/iter_12.pth"));
  EXPECT_TRUE(fs::exists(dir_ / "moved/iter_14.pth"));
}

TEST_F(EndToEnd, PythonReadsACheckpointWithWeightsOnly) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch is found";
  ASSERT_EQ(train("w").status, 0);
  const CommandResult result = run_python(python, R"(
import sys, torch
c = torch.load(sys.argv[1], weights_only=True)
print(sorted(c), c["meta"]["iter"], c["meta"]["seed"], c["message_hub"]["runtime_info"]["iter"])
model = {k: v for k, v in c["state_dict"].items()}
assert all(isinstance(v, torch.Tensor) for v in model.values())
assert c["optimizer"]["param_groups"][0]["initial_lr"] > 0 and 0 in c["optimizer"]["state"]
)",
                                          dir_ / "w/iter_12.pth");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(result.output,
            "['ema_state_dict', 'message_hub', 'meta', 'optimizer', 'param_schedulers', 'segcore', "
            "'state_dict'] 12 3 12\n");
}

TEST_F(EndToEnd, TestTimeAugmentationAveragesScalesAndFlips) {
  ASSERT_EQ(train("w").status, 0);
  const std::string config = dir_.write("tta.yaml", R"(
_base_: tiny.yaml
model: {data_preprocessor: {test_cfg: {size_divisor: 4}}}
tta_model: {type: SegTTAModel}
tta_pipeline:
- {type: LoadImageFromFile}
- type: TestTimeAug
  transforms:
  - - {type: Resize, scale_factor: 1.0, keep_ratio: true}
    - {type: Resize, scale_factor: 1.5, keep_ratio: true}
  - - {type: RandomFlip, prob: 0.0, direction: horizontal}
    - {type: RandomFlip, prob: 1.0, direction: horizontal}
  - [{type: LoadAnnotations}]
  - [{type: PackSegInputs}]
)");
  const CommandResult tested =
      run_command(end_to_end_tool("test") + " " + config + " " + dir_ / "w/iter_12.pth" +
                  " --work-dir " + dir_ / "t" + " --tta --show-dir " + dir_ / "pictures");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr("Iter(test) [3/3]    aAcc: "));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "pictures"), fs::directory_iterator()), 5);
}

TEST_F(EndToEnd, WrongCommandLinesGiveExitCode2) {
  for (const std::string& words :
       {std::string("train"), std::string("test ") + config_,
        "train " + config_ + " --launcher ssh", "train " + config_ + " --launcher pytorch",
        "train " + config_ + " --work-dri x"}) {
    const CommandResult result = run_command(end_to_end_tool(words));
    EXPECT_EQ(result.status, 2) << words << "\n" << result.output;
  }
}

}  // namespace
}  // namespace seg::test
