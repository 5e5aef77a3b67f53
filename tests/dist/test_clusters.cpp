/// Runs on clusters: Slurm and MPI, several machines, preemption, other numbers of processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/slurm_cluster.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"
#include "tests/support/weights_distance.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Clusters : public ::testing::Test {
 protected:
  Clusters() {
    setenv("OMP_NUM_THREADS", "1", 1);
    config_ = dir_.write("tiny.yaml", tiny_run_yaml());
  }
  CommandResult shell(const std::string& line) const { return run_shell_line(dir_, line); }
  /// A program that stands in for one of a cluster.
  void stand_in(const std::string& name, const std::string& script) const {
    dir_.write("bin/" + name, "#!/bin/sh\n" + script);
    fs::permissions(dir_ / ("bin/" + name), fs::perms::owner_all);
  }
  std::string path_with_stand_ins() const { return dir_ / "bin" + ":" + std::getenv("PATH"); }
  TempDir dir_;
  std::string config_;
};

TEST_F(Clusters, SlurmsVariablesAloneJoinTheTasksOfAMachine) {
  std::vector<std::future<CommandResult>> tasks;
  for (int rank = 0; rank < 2; ++rank) {
    tasks.push_back(std::async(std::launch::async, [this, rank] {
      return shell(text("SLURM_JOB_ID=", getpid(), " SLURM_STEP_ID=3 SLURM_PROCID=", rank,
                        " SLURM_LOCALID=", rank,
                        " SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 SLURM_NODELIST=no-such-machine "
                        "@train tiny.yaml --work-dir w --launcher slurm --cfg-options "
                        "train_cfg.max_iters=2"));
    }));
  }
  for (auto& task : tasks) {
    const CommandResult run = task.get();
    EXPECT_EQ(run.status, 0) << run.output;
  }
  EXPECT_TRUE(fs::exists(dir_ / "w/iter_2.pth"));
}

TEST_F(Clusters, JobsOfSlurmMeetAtPortsOfTheirOwn) {
  // Port 10000 + 16 * 1000 + 2 of job 1000, step 2, is another program's.
  dir_.write("listen.py",
             "import socket, subprocess, sys\n"
             "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0)\n"
             "s.bind(('::', 26002)); s.listen()\n"
             "sys.exit(subprocess.call(sys.argv[1], shell=True))\n");
  const CommandResult run = shell(
      "python3 listen.py 'SLURM_JOB_ID=1000 SLURM_STEP_ID=2 SLURM_PROCID=0 SLURM_LOCALID=0 "
      "SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 " +
      program_path("train") + " tiny.yaml --work-dir w --launcher slurm'");
  EXPECT_EQ(run.status, 2);
  EXPECT_THAT(run.output, HasSubstr("port 26002, by which the processes meet, is in use"));
}

/// The starters of MPI themselves, where they are installed.
class ClustersMpi : public Clusters, public ::testing::WithParamInterface<const char*> {};

TEST_P(ClustersMpi, StartsTheProcesses) {
  const std::string starter = GetParam();
  const std::string program = starter.substr(0, starter.find(' '));
  if (run_command("command -v " + program).status != 0) GTEST_SKIP() << "no " << program;
  const CommandResult run =
      shell(text("MASTER_PORT=", free_port(), " ", starter,
                 " @train tiny.yaml --work-dir w --launcher mpi --cfg-options "
                 "train_cfg.max_iters=2"));
  ASSERT_EQ(run.status, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("Processes: 2\n"));
}

INSTANTIATE_TEST_SUITE_P(
    Starters, ClustersMpi,
    ::testing::Values("mpirun.openmpi --allow-run-as-root --oversubscribe -n 2",
                      "mpiexec.hydra -n 2"),
    [](const auto& starter) {
      return std::string(starter.param).starts_with("mpirun") ? "OpenMpi" : "Mpich";
    });

/// What a signal does to a run with --requeue, with a scontrol that notes its words.
class Requeue : public Clusters {
 protected:
  struct Outcome {
    int code;
    std::string output, asked;
  };
  Outcome stop(int signal, BackgroundTool::Environment environment,
               const std::string& more = "") const {
    environment.emplace_back("PATH", path_with_stand_ins());
    std::vector<std::string> words{program_path("train"), config_,  "--work-dir", dir_ / "w",
                                   "--requeue",           "--quiet"};
    std::istringstream given(more);
    for (std::string word; given >> word;) words.push_back(word);
    words.emplace_back("--cfg-options");
    words.emplace_back("train_cfg.max_iters=100000");
    words.emplace_back("train_cfg.val_interval=100000");
    BackgroundTool run(words, dir_ / "output.txt", environment);
    EXPECT_TRUE(run.wait_for("Iter(train) [     2/")) << run.output();
    run.send(signal);
    Outcome out;
    out.code = run.wait();
    out.output = run.output();
    std::ifstream asked(dir_ / "asked.txt");
    out.asked.assign(std::istreambuf_iterator<char>(asked), {});
    return out;
  }
  /// \param state  of the job, as `scontrol show job` has it.
  /// \param then  what happens on a requeue, once its words are noted.
  void scontrol(const std::string& state, const std::string& then) const {
    const std::string asked = dir_ / "asked.txt";
    stand_in("scontrol", text("case \"$*\" in *show*) echo JobId=1 JobState=", state,
                              "; exit 0;; esac\necho \"$@\" >> ", asked, "\nls ", dir_ / "w",
                              "/last_checkpoint >> ", asked, "\n", then, "\n"));
  }
};

TEST_F(Requeue, AsksSlurmOnceThereIsACheckpoint) {
  scontrol("RUNNING", "exit 0");
  const Outcome run = stop(SIGUSR1, {{"SLURM_JOB_ID", "77"}}, "--nproc 2");
  EXPECT_EQ(run.code, 20) << run.output;
  EXPECT_EQ(run.asked, "requeue 77\n" + dir_ / "w/last_checkpoint" + "\n");
  EXPECT_THAT(run.output, HasSubstr("Slurm queues job 77 again"));
}

TEST_F(Requeue, ATaskOfAnArrayIsNamedAsSuchAndAFailureReported) {
  scontrol("RUNNING", "echo 'Job/step already completing or completed' >&2; exit 1");
  const Outcome run =
      stop(SIGTERM,
           {{"SLURM_JOB_ID", "124"}, {"SLURM_ARRAY_JOB_ID", "120"}, {"SLURM_ARRAY_TASK_ID", "4"}});
  EXPECT_EQ(run.code, 20) << run.output;
  EXPECT_THAT(run.asked, HasSubstr("requeue 120_4\n"));
  EXPECT_THAT(run.output,
              HasSubstr("scontrol requeue 120_4 failed: Job/step already completing or completed. "
                        "Submit the job again; with --resume it continues from the checkpoint"));
}

/// Slurm 22.05 shows jobs that were cancelled and those out of time alike.
TEST_F(Requeue, ACancelledJobStaysCancelledButNotOneOutOfTime) {
  scontrol("COMPLETING RunTime=00:00:07 TimeLimit=1-00:00:00", "exit 0");
  const Outcome cancelled = stop(SIGTERM, {{"SLURM_JOB_ID", "77"}});
  EXPECT_EQ(cancelled.code, 20) << cancelled.output;
  EXPECT_EQ(cancelled.asked, "");
  EXPECT_THAT(cancelled.output, HasSubstr("job 77 was cancelled and is not queued again"));
  scontrol("COMPLETING RunTime=1-00:00:07 TimeLimit=1-00:00:00", "exit 0");
  EXPECT_THAT(stop(SIGTERM, {{"SLURM_JOB_ID", "77"}}).asked, HasSubstr("requeue 77\n"));
}

TEST_F(Requeue, IsNotMeantByCtrlCAndDoesNothingOutsideOfSlurm) {
  scontrol("RUNNING", "exit 0");
  EXPECT_EQ(stop(SIGINT, {{"SLURM_JOB_ID", "77"}}).code, 20);
  const Outcome outside = stop(SIGTERM, {});
  EXPECT_EQ(outside.code, 20);
  EXPECT_EQ(outside.asked, "");
  EXPECT_THAT(outside.output,
              HasSubstr("--requeue has no effect: this is no job of Slurm, as the environment has "
                        "no SLURM_JOB_ID"));
}

/// A Slurm of this machine with its real programs.
TEST_F(Clusters, ARealSlurmStartsRequeuesAndCancels) {
  if (const std::string problem = SlurmCluster::problem(); !problem.empty()) {
    GTEST_SKIP() << problem;
  }
  const SlurmCluster slurm;
  ASSERT_TRUE(slurm.is_up()) << slurm.log();
  for (const char* name : {"train", "test"}) {
    fs::create_directories(dir_ / "tools");
    fs::create_symlink(program_path(name), dir_ / text("tools/", name));
    const std::string script = text("tools/slurm_", name, ".sh");
    fs::copy_file(source_path(script), dir_ / script);
  }
  const std::string on_cpus = "export GPUS=2 GPUS_PER_NODE=0 CPUS_PER_TASK=1; ";
  const CommandResult trained =
      shell(on_cpus +
            "tools/slurm_train.sh low job tiny.yaml --work-dir t --quiet --cfg-options "
            "train_cfg.max_iters=1");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const CommandResult tested =
      shell(on_cpus + "tools/slurm_test.sh low job tiny.yaml t/iter_1.pth --work-dir t --quiet");
  EXPECT_EQ(tested.status, 0) << tested.output;

  dir_.write("job.sh",
             "#!/bin/bash\n#SBATCH --requeue --open-mode=append --output=out.txt\n"
             "srun " +
                 program_path("train") +
                 " tiny.yaml --work-dir w --launcher slurm --resume --requeue --quiet "
                 "--cfg-options train_cfg.max_iters=100000 train_cfg.val_interval=100000\n");
  const auto prints = [&](const std::string& words) {
    return SlurmCluster::wait_until([&] {
      SlurmCluster::release_held_tasks();
      return dir_.read("out.txt").find(words) != std::string::npos;
    });
  };
  std::string job = shell("sbatch --parsable -p low --ntasks=2 --time=10 job.sh").output;
  job.erase(job.find_last_not_of('\n') + 1);
  ASSERT_TRUE(prints("Iter(train) [     2/")) << dir_.read("out.txt");
  shell("scancel --signal=USR1 " + job);
  EXPECT_TRUE(prints("Slurm queues job " + job + " again")) << dir_.read("out.txt");
  EXPECT_TRUE(prints("resumed from w/iter_")) << dir_.read("out.txt");
  shell("scancel " + job);
  EXPECT_TRUE(prints("job " + job + " was cancelled and is not queued again"))
      << dir_.read("out.txt");
  EXPECT_TRUE(SlurmCluster::wait_until([] { return run_command("squeue -h").output.empty(); }));
}

TEST_F(Clusters, AnotherNumberOfProcessesTrainsTheSame) {
  const std::string more =
      " --quiet --cfg-options train_cfg.max_iters=6 train_cfg.val_interval=6 "
      "default_hooks.checkpoint.interval=2 train_dataloader.batch_size=4 "
      "model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups=2 "
      "model.decode_head.dropout_ratio=0 model.backbone.drop_rate=0 "
      "model.backbone.drop_path_rate=0";
  const CommandResult whole = shell("@train tiny.yaml --work-dir whole" + more);
  ASSERT_EQ(whole.status, 0) << whole.output;
  const CommandResult two =
      shell("@train tiny.yaml --nproc 2 --work-dir two --resume whole/iter_2.pth" + more);
  ASSERT_EQ(two.status, 0) << two.output;
  EXPECT_THAT(two.output,
              HasSubstr("the global batch stays 4 samples as in the checkpoint: 2 for each of 2 "
                        "processes (--global-batch N sets it)"));
  const CommandResult one = shell("@train tiny.yaml --work-dir one --resume two/iter_4.pth" + more);
  ASSERT_EQ(one.status, 0) << one.output;
  const Value want = read_checkpoint(dir_ / "whole/iter_6.pth").at("state_dict");
  for (const char* found : {"two/iter_6.pth", "one/iter_6.pth"}) {
    EXPECT_LT(weights_distance(want, read_checkpoint(dir_ / found).at("state_dict")), 1e-6);
  }
}

TEST_F(Clusters, AGlobalBatchIsSharedEquallyOrRefused) {
  const CommandResult run = shell(
      "@train tiny.yaml --nproc 2 --work-dir w --global-batch 6 --cfg-options "
      "train_cfg.max_iters=1");
  ASSERT_EQ(run.status, 0) << run.output;
  const Value own = read_checkpoint(dir_ / "w/iter_1.pth").at("segcore");
  EXPECT_EQ(own.at("batch_size").as_int(), 3);
  EXPECT_EQ(own.at("world_size").as_int(), 2);
  const CommandResult odd = shell("@train tiny.yaml --nproc 2 --work-dir v --global-batch 5");
  EXPECT_EQ(odd.status, 1);
  EXPECT_THAT(odd.output, HasSubstr("--global-batch: error: global_batch: 2 processes cannot share "
                                    "5 samples equally. Write 4 or 6\n"));
}

/// The commands of docs/clusters.md for one machine, with configs/quickstart.yaml made short.
TEST_F(Clusters, CommandsOfThePageRunAsWritten) {
  const auto read = [](const std::string& path) {
    std::ifstream in(source_path(path));
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string page = read("docs/clusters.md");
  const size_t begin = page.find("```sh\n") + 6;
  std::string commands = page.substr(begin, page.find("```", begin) - begin);
  for (size_t at; (at = commands.find("iter_800")) != std::string::npos;) {
    commands.replace(at, 8, "iter_2");
  }
  dir_.write("configs/whole_quickstart.yaml", read("configs/quickstart.yaml"));
  dir_.write("configs/quickstart.yaml",
             "_base_: whole_quickstart.yaml\n"
             "train_cfg: {max_iters: 2, val_interval: 2}\n"
             "default_hooks: {checkpoint: {interval: 2}}\n"
             "train_dataloader: {batch_size: 1, dataset: {num_samples: 4}}\n"
             "val_dataloader: {dataset: {num_samples: 2}}\n"
             "test_dataloader: {dataset: {num_samples: 2}}\n");
  fs::create_directory_symlink(source_path("configs/_base_"), dir_ / "configs/_base_");
  fs::create_directory(dir_ / "tools");
  for (const char* name : {"train", "test", "predict"}) {
    fs::create_symlink(program_path(name), dir_ / text("tools/", name));
  }
  for (const char* name : {"dist_train.sh", "dist_test.sh"}) {
    fs::create_symlink(source_path(text("tools/", name)), dir_ / text("tools/", name));
  }
  write_png(dir_ / "photos/a.png", tiny_image(64, 96, 3));
  dir_.write("script.sh", "set -e\n" + commands);
  const CommandResult run = shell("sh script.sh");
  EXPECT_EQ(run.status, 0) << run.output;
  EXPECT_TRUE(fs::exists(dir_ / "predictions/a_ids.png"));
}

/// Two machines: network namespaces of this one, with a cable between them.
class TwoMachines : public Clusters {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "network namespaces are root's";
    if (run_command("command -v ip").status != 0) GTEST_SKIP() << "there is no ip (iproute2)";
    const CommandResult made = run_command(text("ip netns add ", name(0)));
    if (made.status != 0) GTEST_SKIP() << "no network namespaces: " << made.output;
    const std::string cable[] = {text("sa", getpid()), text("sb", getpid())};
    std::string setup = text("ip netns add ", name(1), " && ip link add ", cable[0], " netns ",
                             name(0), " type veth peer name ", cable[1], " netns ", name(1));
    for (int node = 0; node < 2; ++node) {
      setup += text(" && ip -n ", name(node), " addr add 10.97.0.", node + 1, "/24 dev ",
                    cable[node], " && ip -n ", name(node), " link set ", cable[node],
                    " up && ip -n ", name(node), " link set lo up");
    }
    const CommandResult cabled = run_command(setup);
    if (cabled.status != 0) GTEST_SKIP() << "no cable between namespaces: " << cabled.output;
  }
  ~TwoMachines() override {
    for (int node = 0; node < 2; ++node) run_command("ip netns del " + name(node));
  }
  static std::string name(int node) { return text("segcore-", getpid(), "-", node); }
  /// Runs a line on a machine.
  std::future<CommandResult> on_machine(int node, const std::string& line) const {
    return std::async(std::launch::async, [=, this] {
      return shell(text("exec ip netns exec ", name(node), " env ", line));
    });
  }
};

TEST_F(TwoMachines, TrainLikeOne) {
  const std::string more =
      " --quiet --cfg-options train_cfg.max_iters=3 train_cfg.val_interval=3 "
      "model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups=2 "
      "model.decode_head.dropout_ratio=0 model.backbone.drop_rate=0 "
      "model.backbone.drop_path_rate=0 train_dataloader.batch_size=";
  const CommandResult alone = shell("@train tiny.yaml --work-dir one" + more + "4");
  ASSERT_EQ(alone.status, 0) << alone.output;
  std::vector<std::future<CommandResult>> machines;
  for (int node = 0; node < 2; ++node) {
    machines.push_back(on_machine(node, text("NNODES=2 NODE_RANK=", node,
                                             " MASTER_ADDR=10.97.0.1 MASTER_PORT=29533 "
                                             "@train tiny.yaml --nproc 2 --work-dir four",
                                             more, "1")));
  }
  for (auto& machine : machines) {
    const CommandResult run = machine.get();
    EXPECT_EQ(run.status, 0) << run.output;
  }
  EXPECT_LT(weights_distance(read_checkpoint(dir_ / "one/iter_3.pth").at("state_dict"),
                             read_checkpoint(dir_ / "four/iter_3.pth").at("state_dict")),
            1e-4);
  for (const char* rank : {"1", "2", "3"}) {
    EXPECT_EQ(run_command(text("ls ", dir_ / "four", "/*/ranks/rank_", rank, ".log")).status, 0);
  }
}

TEST_F(TwoMachines, SlurmsVariablesNameTheFirst) {
  std::vector<std::future<CommandResult>> tasks;
  for (int rank = 0; rank < 4; ++rank) {
    tasks.push_back(on_machine(
        rank / 2,
        text("SLURM_JOB_ID=", getpid(), " SLURM_PROCID=", rank, " SLURM_LOCALID=", rank % 2,
             " SLURM_NTASKS=4 SLURM_STEP_NUM_NODES=2 "
             "SLURM_STEP_NODELIST=10.97.0.1,10.97.0.2 "
             "@train tiny.yaml --work-dir w --launcher slurm --quiet --cfg-options "
             "train_cfg.max_iters=2 train_dataloader.batch_size=1")));
  }
  for (auto& task : tasks) {
    const CommandResult run = task.get();
    EXPECT_EQ(run.status, 0) << run.output;
  }
  EXPECT_TRUE(fs::exists(dir_ / "w/iter_2.pth"));
}

/// Trains on both machines until something happens.
class CutMachines : public TwoMachines {
 protected:
  void start(const std::string& more = "") {
    for (int node = 0; node < 2; ++node) {
      running_.push_back(on_machine(
          node, text("NNODES=2 NODE_RANK=", node,
                     " MASTER_ADDR=10.97.0.1 MASTER_PORT=29533 @train tiny.yaml --nproc 2 "
                     "--work-dir w --quiet --cfg-options train_cfg.max_iters=100000 "
                     "train_cfg.val_interval=100000 train_dataloader.batch_size=1 ",
                     more)));
    }
  }
  std::string log() const {
    return run_command(text("cat ", dir_ / "w", "/*/2*.log 2>/dev/null")).output;
  }
  bool reaches(const std::string& words) const {
    for (int i = 0; i < 300; ++i) {
      if (log().find(words) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
  }
  /// Sends a signal to the process of a rank, wherever it is.
  static void send(int rank, const std::string& signal) {
    run_command(text("for p in $(ip netns pids ", name(rank / 2),
                     "); do tr '\\0' '\\n' < /proc/$p/environ | grep -qx RANK=", rank, " && kill -",
                     signal, " $p; done"));
  }
  /// Takes the cable out, or plugs it in.
  static void set_link(const std::string& state) {
    run_command(text("ip -n ", name(0), " link set sa", getpid(), " ", state));
  }
  std::vector<std::future<CommandResult>> running_;
};

TEST_F(CutMachines, AKilledProcessEndsBoth) {
  start();
  ASSERT_TRUE(reaches("Iter(train) [     2/"));
  send(3, "KILL");
  const CommandResult other = running_[0].get(), same = running_[1].get();
  EXPECT_EQ(other.status, 22) << other.output;
  EXPECT_THAT(other.output, HasSubstr("rank 3"));
  EXPECT_EQ(same.status, 128 + SIGKILL) << same.output;
  EXPECT_THAT(same.output, HasSubstr("error: rank 3 of 4 was killed by SIGKILL"));
}

TEST_F(CutMachines, ACableThatStaysOutEndsAllWith22) {
  start("env_cfg.dist_cfg.heartbeat_timeout=5");
  ASSERT_TRUE(reaches("Iter(train) [     2/"));
  const auto begin = std::chrono::steady_clock::now();
  set_link("down");
  for (auto& machine : running_) {
    const CommandResult run = machine.get();
    EXPECT_EQ(run.status, 22) << run.output;
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(spent.count(), 60);
}

TEST_F(CutMachines, ADelayOfFiveSecondsDoesNot) {
  start();
  ASSERT_TRUE(reaches("Iter(train) [     2/"));
  set_link("down");
  std::this_thread::sleep_for(std::chrono::seconds(5));
  set_link("up");
  const std::string before = log();
  const auto count = [](const std::string& text_of_log) {
    size_t found = 0;
    for (size_t at = 0; (at = text_of_log.find("Iter(train)", at)) != std::string::npos; ++at)
      ++found;
    return found;
  };
  bool goes_on = false;
  for (int i = 0; i < 200 && !goes_on; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    goes_on = count(log()) > count(before) + 3;
  }
  EXPECT_TRUE(goes_on);
  send(0, "TERM");
  for (auto& machine : running_) {
    const CommandResult run = machine.get();
    EXPECT_EQ(run.status, 20) << run.output;
  }
}

}  // namespace
}  // namespace seg::test
