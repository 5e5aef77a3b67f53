/// `--nproc`: several processes of one machine, started, watched and ended by one command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"
#include "tests/support/weights_distance.hpp"
#include "tools/common/local_launch.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

/// Nothing depends on what else is in a batch of a process or on draws that ranks make apart.
constexpr const char* kSameForAnyShare =
    " model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups=2 "
    "model.decode_head.dropout_ratio=0 model.backbone.drop_rate=0 "
    "model.backbone.drop_path_rate=0 ";

class Launch : public ::testing::Test {
 protected:
  Launch() {
    setenv("OMP_NUM_THREADS", "1", 1);
    config_ = dir_.write("tiny.yaml", tiny_run_yaml());
  }
  CommandResult shell(const std::string& line) const { return run_shell_line(dir_, line); }
  Value weights(const std::string& checkpoint) const {
    return read_checkpoint(dir_ / checkpoint).at("state_dict");
  }
  /// The one folder of a launch in a work dir.
  fs::path launch_folder(const std::string& work_dir) const {
    for (const auto& entry : fs::directory_iterator(dir_ / work_dir)) {
      if (entry.is_directory()) return entry.path();
    }
    return {};
  }
  BackgroundTool train_in_background(const std::string& more = "") const {
    std::vector<std::string> words{program_path("train"), config_,    "--nproc", "2",
                                   "--work-dir",          dir_ / "w", "--quiet"};
    std::istringstream given(more);
    for (std::string word; given >> word;) words.push_back(word);
    words.emplace_back("--cfg-options");
    words.emplace_back("train_cfg.max_iters=100000");
    words.emplace_back("default_hooks.checkpoint.interval=1000");
    words.emplace_back("train_cfg.val_interval=100000");
    return BackgroundTool(words, dir_ / "output.txt");
  }

  TempDir dir_;
  std::string config_;
};

std::string file_in(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Processes that this one has started, with their own.
std::vector<int> children_of(int pid) {
  std::vector<int> out;
  std::ifstream in(text("/proc/", pid, "/task/", pid, "/children"));
  for (int child; in >> child;) out.push_back(child);
  return out;
}

int only_child() {
  const std::vector<int> all = children_of(getpid());
  return all.size() == 1 ? all[0] : 0;
}

/// Whether the process has ended or is about to be waited for.
bool has_ended(int pid) {
  std::ifstream in(text("/proc/", pid, "/stat"));
  std::string number, name, state;
  in >> number >> name >> state;
  return state.empty() || state == "Z";
}

bool all_end_within(const std::vector<int>& pids, int seconds) {
  for (int i = 0; i < seconds * 20; ++i) {
    if (std::all_of(pids.begin(), pids.end(), has_ended)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

std::string without_times(const std::string& output) {
  static const std::regex time(R"(\d\d/\d\d \d\d:\d\d:\d\d)");
  return std::regex_replace(output, time, "TIME");
}

TEST_F(Launch, TwoProcessesTrainLikeOneAndCountLikeOne) {
  const std::string more =
      text(" --quiet --cfg-options train_cfg.max_iters=4 train_cfg.val_interval=4",
           kSameForAnyShare, "train_dataloader.batch_size=");
  const CommandResult alone = shell("@train tiny.yaml --work-dir one" + more + "4");
  ASSERT_EQ(alone.status, 0) << alone.output;
  const CommandResult both = shell("@train tiny.yaml --nproc 2 --work-dir two" + more + "2");
  ASSERT_EQ(both.status, 0) << both.output;
  EXPECT_LT(weights_distance(weights("one/iter_4.pth"), weights("two/iter_4.pth")), 1e-4);
  // The console has the first process's lines; the other's are in a file.
  EXPECT_THAT(both.output, HasSubstr("Iter(train) [4/4]"));
  EXPECT_THAT(both.output, Not(ContainsRegex("\\[1\\] [^\n]* INFO ")));
  EXPECT_THAT(file_in(launch_folder("two") / "ranks/rank_1.log"), HasSubstr("System environment:"));
  EXPECT_FALSE(fs::exists(launch_folder("two") / "ranks/rank_0.log"));
  EXPECT_FALSE(fs::exists(launch_folder("one") / "ranks"));

  const std::string test = text(" one/iter_4.pth --quiet --cfg-options", kSameForAnyShare);
  const CommandResult counted = shell("@test tiny.yaml --work-dir t1" + test);
  ASSERT_EQ(counted.status, 0) << counted.output;
  const CommandResult shared = shell("@test tiny.yaml --nproc=2 --work-dir t2" + test);
  ASSERT_EQ(shared.status, 0) << shared.output;
  const auto metrics = [&](const std::string& work_dir) {
    const fs::path folder = launch_folder(work_dir);
    auto out = nlohmann::json::parse(file_in(folder / (folder.filename().string() + ".json")));
    for (const char* key : {"time", "data_time"}) out.erase(key);
    return out;
  };
  EXPECT_TRUE(metrics("t1").contains("mIoU"));
  EXPECT_EQ(metrics("t1"), metrics("t2"));
}

TEST_F(Launch, OneProcessIsThePlainRun) {
  const CommandResult run =
      shell("@train tiny.yaml --nproc 1 --work-dir w --cfg-options train_cfg.max_iters=1");
  EXPECT_EQ(run.status, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("Distributed launcher: none"));
}

TEST_F(Launch, PredictionsAreSharedOut) {
  for (int i = 0; i < 5; ++i) {
    write_png(dir_ / text("photos/p", i, ".png"), tiny_image(32, 40 + 8 * i, i));
  }
  dir_.write("photos/p2_broken.png", "no picture");
  ASSERT_EQ(shell("@train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=1").status, 0);
  const auto predict = [&](const std::string& more) {
    const CommandResult run =
        shell("@predict tiny.yaml w/iter_1.pth photos --out out " + more + " 2>&1");
    EXPECT_EQ(run.status, 1);
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(dir_ / "out")) {
      files[entry.path().filename().string()] = file_in(entry.path());
    }
    fs::remove_all(dir_ / "out");
    return std::pair(without_times(run.output), files);
  };
  const auto alone = predict("");
  EXPECT_EQ(alone.second.size(), 11u);  // two an image, and the legend
  EXPECT_THAT(alone.first, HasSubstr("error: 1 of 6 images could not be predicted:\n"));
  // The launcher adds who failed; nothing else differs.
  auto shared = predict("--nproc 3");
  EXPECT_EQ(shared.first, alone.first + "error: rank 0 of 3 exited with 1\n");
  EXPECT_EQ(shared.second, alone.second);
}

TEST_F(Launch, AKilledProcessIsNamedAndEndsTheOthers) {
  BackgroundTool run = train_in_background();
  ASSERT_TRUE(run.wait_for("Iter(train) [     3/")) << run.output();
  const std::vector<int> ranks = children_of(only_child());
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGKILL);
  EXPECT_EQ(run.wait(), 128 + SIGKILL);
  EXPECT_THAT(run.output(), HasSubstr("error: rank 1 of 2 was killed by SIGKILL\n"));
  EXPECT_TRUE(all_end_within(ranks, 0 + 1));
}

TEST_F(Launch, ASignalReachesAllAndSavesOnce) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    SCOPED_TRACE(signal);
    fs::remove_all(dir_ / "w");
    BackgroundTool run = train_in_background();
    ASSERT_TRUE(run.wait_for("Iter(train) [     2/")) << run.output();
    run.send(signal);
    EXPECT_EQ(run.wait(), 20) << run.output();
    const std::string output = run.output();
    const std::string message = "error: stopped by " + std::string(signal == SIGTERM   ? "SIGTERM"
                                                                   : signal == SIGUSR1 ? "SIGUSR1"
                                                                                       : "SIGINT");
    ASSERT_THAT(output, HasSubstr(message));
    EXPECT_EQ(output.find(message), output.rfind(message)) << "once, though two processes end so";
    EXPECT_THAT(output, Not(HasSubstr("of 2 exited")));
    EXPECT_TRUE(fs::exists(dir_ / "w/last_checkpoint"));
  }
}

TEST_F(Launch, NothingOutlivesAKilledLauncher) {
  BackgroundTool run = train_in_background();
  ASSERT_TRUE(run.wait_for("Iter(train) [     2/")) << run.output();
  const std::vector<int> ranks = children_of(only_child());
  ASSERT_EQ(ranks.size(), 2u);
  run.send(SIGKILL);
  EXPECT_EQ(run.wait(), -SIGKILL);
  EXPECT_TRUE(all_end_within(ranks, 15));
}

TEST_F(Launch, AMistakeOfTheConfigIsReportedOnce) {
  const CommandResult run =
      shell("@train tiny.yaml --nproc 2 --cfg-options model.backbone.embed_dim=8");
  EXPECT_EQ(run.status, 1);
  EXPECT_EQ(run.output,
            "--cfg-options #1: error: model.backbone: MixVisionTransformer has no option "
            "'embed_dim'. Did you mean 'embed_dims'? Known: " +
                run.output.substr(run.output.find("Known: ") + 7));
  EXPECT_EQ(run.output.find("Did you mean"), run.output.rfind("Did you mean"));
}

TEST_F(Launch, WrongCommandLinesAreExplained) {
  const auto message = [&](const std::string& line) {
    const CommandResult run = shell(line);
    EXPECT_EQ(run.status, 2) << run.output;
    return run.output;
  };
  EXPECT_THAT(message("@train tiny.yaml --nproc 0"),
              HasSubstr("--nproc: must be a whole number of at least 1, got '0'"));
  EXPECT_THAT(message("@train tiny.yaml --nproc all"),
              HasSubstr("--nproc: must be a whole number of at least 1, got 'all'"));
  EXPECT_EQ(message("@train tiny.yaml --nproc 99999"),
            "train: --nproc: at most 4096 processes, got 99999 (see train --help)\n");
  EXPECT_EQ(message("@test tiny.yaml x.pth --nproc 2 --launcher slurm"),
            "test: --nproc starts the processes itself: leave it out where slurm starts them, or "
            "leave out --launcher (see test --help)\n");
  EXPECT_EQ(message("CUDA_VISIBLE_DEVICES= @predict tiny.yaml x.pth y --out z --nproc gpu"),
            "predict: --nproc gpu: CUDA_VISIBLE_DEVICES hides all GPUs. Write the number of "
            "processes (see predict --help)\n");
  EXPECT_EQ(message("NNODES=2 @train tiny.yaml --nproc 2"),
            "train: --nproc: NNODES is 2, which also needs NODE_RANK, 0 to 1, and MASTER_ADDR, the "
            "address of the machine with NODE_RANK=0 (see train --help)\n");
  EXPECT_EQ(message("NNODES=2 NODE_RANK=2 MASTER_ADDR=a @train tiny.yaml --nproc 1"),
            "train: --nproc: NODE_RANK=2 does not go with NNODES=2 (see train --help)\n");
  EXPECT_EQ(message("NNODES=two @train tiny.yaml --nproc 1"),
            "train: --nproc: the variable NNODES is 'two', expected a whole number of at least 1 "
            "(see train --help)\n");
}

/// Processes that are a line of a shell: how launcher and ranks get on, without a training.
class LaunchedShell : public ::testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string out, err;
  };
  /// \param script  in which $RANK is the process's.
  Outcome launch(const std::string& script, int count, int grace_s = 60) const {
    constexpr int kTerminateSeconds = 1;
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = launch_processes({.program = "/bin/bash",
                                       .words = {"bash", "-c", script},
                                       .count = count,
                                       .grace_s = grace_s,
                                       .terminate_s = kTerminateSeconds});
    return {code, ::testing::internal::GetCapturedStdout(),
            ::testing::internal::GetCapturedStderr()};
  }
};

TEST_F(LaunchedShell, LinesShowTheirRank) {
  const Outcome run = launch("sleep 0.$RANK; echo a; printf b; echo oops >&2", 3);
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(run.out, "a\nb[1] a\n[1] b\n[2] a\n[2] b\n");
  EXPECT_EQ(run.err, "oops\n[1] oops\n[2] oops\n");
}

TEST_F(LaunchedShell, ALongOutputIsNotHeldUp) {
  const Outcome run = launch("[ $RANK = 0 ] || seq 100000", 2);
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(std::count(run.out.begin(), run.out.end(), '\n'), 100000);
  EXPECT_TRUE(run.out.ends_with("[1] 100000\n"));
}

TEST_F(LaunchedShell, TheEnvironmentIsThatOfTorchrun) {
  unsetenv("OMP_NUM_THREADS");
  const Outcome run = launch(
      "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR "
      "$TORCHELASTIC_USE_AGENT_STORE $((OMP_NUM_THREADS > 0)) $((MASTER_PORT > 0))",
      2);
  setenv("OMP_NUM_THREADS", "1", 1);
  EXPECT_EQ(run.code, 0);
  std::set<std::string> lines;
  std::istringstream in(run.out);
  for (std::string line; std::getline(in, line);) lines.insert(line);
  EXPECT_EQ(lines, (std::set<std::string>{"0 2 0 2 127.0.0.1 True 1 1",
                                          "[1] 1 2 1 2 127.0.0.1 True 1 1"}));
}

TEST_F(LaunchedShell, TheFirstFailureCounts) {
  const Outcome run = launch("[ $RANK = 2 ] && exit 3; sleep 0.5; exit 22", 3);
  EXPECT_EQ(run.code, 3);
  EXPECT_EQ(run.err, "error: rank 2 of 3 exited with 3\n");
}

TEST_F(LaunchedShell, WhoLostAPeerIsNotTheCauseThoughSeenFirst) {
  const Outcome run = launch("[ $RANK = 0 ] && exit 22; sleep 0.3; kill -SEGV $$", 2);
  EXPECT_EQ(run.code, 128 + SIGSEGV);
  EXPECT_EQ(run.err, "error: rank 1 of 2 was killed by SIGSEGV\n");
  EXPECT_EQ(launch("exit 22", 2).code, 22);
}

TEST_F(LaunchedShell, OthersThatDoNotEndAreEnded) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome run = launch("[ $RANK = 1 ] && exit 7; sleep 100", 2, /*grace_s=*/1);
  EXPECT_EQ(run.code, 7);
  EXPECT_EQ(run.err,
            "error: rank 0 does not end and gets SIGTERM\nerror: rank 1 of 2 exited with 7\n");
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  EXPECT_GE(spent.count(), 1);
  EXPECT_LT(spent.count(), 9);
}

TEST_F(LaunchedShell, OneThatIgnoresSigtermIsKilled) {
  const TempDir dir;
  const std::string deaf = dir / "deaf";
  const Outcome run = launch("if [ $RANK = 1 ]; then until [ -e " + deaf +
                                 " ]; do sleep 0.05; done; exit 7; fi; trap '' TERM; touch " +
                                 deaf + "; while true; do sleep 0.1; done",
                             2, 0);
  EXPECT_EQ(run.code, 7);
  EXPECT_EQ(run.err,
            "error: rank 0 does not end and gets SIGTERM\nerror: rank 0 does not end and gets "
            "SIGKILL\nerror: rank 1 of 2 exited with 7\n");
}

TEST_F(LaunchedShell, AnErrorOfAllIsShownOnce) {
  const Outcome run = launch("echo 'error: no such file' >&2; exit 1", 3);
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, ContainsRegex("^(\\[[12]\\] )?error: no such file\n"
                                     "error: rank [012] of 3 exited with 1\n$"));
}

/// The launcher of PyTorch itself, where the set-up has it.
TEST_F(Launch, TorchrunStartsTheSame) {
  const std::string python = python_with_torch();
  const std::string torchrun = (fs::path(python).parent_path() / "torchrun").string();
  if (python.empty() || !fs::exists(torchrun)) GTEST_SKIP() << "there is no torchrun";
  const std::string more =
      text(" --quiet --cfg-options train_cfg.max_iters=3 train_cfg.val_interval=3",
           kSameForAnyShare, "train_dataloader.batch_size=2");
  const CommandResult ours = shell("@train tiny.yaml --nproc 2 --work-dir ours" + more);
  ASSERT_EQ(ours.status, 0) << ours.output;
  const CommandResult theirs =
      shell(torchrun + " --no-python --nproc-per-node 2 --master-port " + text(free_port()) +
            " @train tiny.yaml --work-dir theirs --launcher pytorch" + more);
  ASSERT_EQ(theirs.status, 0) << theirs.output;
  EXPECT_EQ(first_difference(weights("ours/iter_3.pth"), weights("theirs/iter_3.pth")), "");
}

/// MMSegmentation's scripts: their arguments and environment.
TEST_F(Launch, ScriptsOfMMSegmentation) {
  const std::string scripts = dir_ / "tools";
  fs::create_directory(scripts);
  for (const char* name : {"dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh"}) {
    fs::copy_file(source_path(text("tools/", name)), scripts + "/" + name);
  }
  for (const char* name : {"train", "test"}) {
    fs::create_symlink(program_path(name), scripts + "/" + name);
  }
  const CommandResult trained = shell(
      "tools/dist_train.sh tiny.yaml 2 --work-dir w --quiet --cfg-options train_cfg.max_iters=1");
  ASSERT_EQ(trained.status, 0) << trained.output;
  EXPECT_TRUE(fs::exists(launch_folder("w") / "ranks/rank_1.log"));
  const CommandResult tested =
      shell("tools/dist_test.sh tiny.yaml w/iter_1.pth 2 --work-dir t --quiet");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_TRUE(fs::exists(launch_folder("t") / "ranks/rank_1.log"));

  dir_.write("bin/srun", "#!/bin/sh\nfor word; do printf '<%s>' \"$word\"; done; echo\n");
  fs::permissions(dir_ / "bin/srun", fs::perms::owner_all);
  const std::string path = "PATH=" + dir_ / "bin" + ":$PATH ";
  EXPECT_EQ(shell(path + "tools/slurm_train.sh part job tiny.yaml --work-dir 'a b'").output,
            "<-p><part><--job-name=job><--gres=gpu:4><--ntasks-per-node=4><--ntasks=4>"
            "<--cpus-per-task=5><--kill-on-bad-exit=1><tools/train><tiny.yaml><--launcher><slurm>"
            "<--work-dir><a b>\n");
  EXPECT_EQ(shell("export GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=2 SRUN_ARGS='--time 1'; " + path +
                  "tools/slurm_test.sh part job tiny.yaml x.pth --tta")
                .output,
            "<-p><part><--job-name=job><--gres=gpu:8><--ntasks-per-node=8><--ntasks=16>"
            "<--cpus-per-task=2><--kill-on-bad-exit=1><--time><1><tools/test><tiny.yaml><x.pth>"
            "<--launcher><slurm><--tta>\n");
  EXPECT_EQ(
      shell("export GPUS=2 GPUS_PER_NODE=0; " + path + "tools/slurm_train.sh part job tiny.yaml")
          .output,
      "<-p><part><--job-name=job><--ntasks=2><--cpus-per-task=5><--kill-on-bad-exit=1>"
      "<tools/train><tiny.yaml><--launcher><slurm>\n");
  for (const auto& [line, usage] : std::vector<std::pair<std::string, std::string>>{
           {"dist_train.sh x", "tools/dist_train.sh CONFIG GPUS [options of tools/train]\n"},
           {"dist_test.sh x y", "tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of"},
           {"slurm_train.sh x y", "tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of"},
           {"slurm_test.sh x y z", "tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT ["}}) {
    const CommandResult run = shell("tools/" + line);
    EXPECT_EQ(run.status, 2);
    EXPECT_THAT(run.output, HasSubstr(usage));
  }
}

}  // namespace
}  // namespace seg::test
