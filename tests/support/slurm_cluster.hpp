/// A Slurm of one machine with three slots, for as long as its object lives: its own daemons, ports
/// and folder.
#pragma once
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/background_tool.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {

class SlurmCluster {
 public:
  /// Why none can be started here; "" where one can.
  static std::string problem() {
    if (geteuid() != 0) return "Slurm's daemons need root";
    for (const char* program : {"munged", "slurmctld", "slurmd"}) {
      if (program_in_sbin(program).empty()) {
        return std::string("there is no ") + program +
               ": apt-get install slurmctld slurmd slurm-client munge";
      }
    }
    return "";
  }

  /// Programs of Slurm find the cluster by SLURM_CONF, which is set.
  SlurmCluster() {
    std::array<char, 256> name{};
    gethostname(name.data(), name.size() - 1);
    host_ = name.data();
    dir_.write("munge.key", std::string(128, 'k'));
    std::filesystem::permissions(dir_ / "munge.key", std::filesystem::perms::owner_read);
    for (const char* folder : {"state", "spool"}) std::filesystem::create_directory(dir_ / folder);
    dir_.write("slurm.conf", configuration());
    setenv("SLURM_CONF", (dir_ / "slurm.conf").c_str(), 1);
    start({"munged", "--force", "--foreground", "--socket=" + dir_ / "munge.sock",
           "--key-file=" + dir_ / "munge.key", "--pid-file=" + dir_ / "munged.pid",
           "--log-file=" + dir_ / "munged.log", "--seed-file=" + dir_ / "munged.seed"});
    wait_until([&] { return std::filesystem::exists(dir_ / "munge.sock"); });
    start({"slurmctld", "-D"});
    start({"slurmd", "-D"});
    up_ = wait_until([] { return run_command("sinfo -h -o %t").output.starts_with("idle"); });
  }
  SlurmCluster(const SlurmCluster&) = delete;
  SlurmCluster& operator=(const SlurmCluster&) = delete;
  ~SlurmCluster() {
    run_command("scancel --me");
    wait_until([] { return run_command("squeue -h").output.empty(); });
    for (auto daemon = daemons_.rbegin(); daemon != daemons_.rend(); ++daemon) {
      (*daemon)->send(SIGTERM);
      (*daemon)->wait();
    }
    unsetenv("SLURM_CONF");
  }

  bool is_up() const { return up_; }
  const std::string& host() const { return host_; }
  /// What the daemons printed, for a test that fails.
  std::string log() const { return dir_.read("daemons.txt"); }

  /// Waits for a condition, a minute and a half at most.
  template <class Condition>
  static bool wait_until(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(90);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return true;
  }
  /// What an administrator does for a task that a node refused, because it had not yet got rid of
  /// the one before.
  static void release_held_tasks() {
    std::istringstream in(run_command("squeue -h -r -t PD -o '%i %r'").output);
    for (std::string line; std::getline(in, line);) {
      if (line.find("held") == std::string::npos) continue;
      run_command("scontrol release " + line.substr(0, line.find(' ')));
    }
  }

 private:
  static std::string program_in_sbin(const std::string& name) {
    for (const char* folder : {"/usr/sbin/", "/usr/local/sbin/", "/usr/bin/", "/sbin/"}) {
      if (std::filesystem::exists(folder + name)) return folder + name;
    }
    return "";
  }
  void start(std::vector<std::string> words) {
    words[0] = program_in_sbin(words[0]);
    daemons_.push_back(std::make_unique<BackgroundTool>(words, dir_ / "daemons.txt"));
  }
  /// Three slots whatever the cores are; a partition whose jobs others preempt.
  std::string configuration() const {
    const std::string here = dir_.path().string();
    return "ClusterName=segcore\nSlurmctldHost=" + host_ +
           "(127.0.0.1)\nSlurmUser=root\nSlurmctldPort=" + std::to_string(free_port()) +
           "\nSlurmdPort=" + std::to_string(free_port()) +
           "\nAuthType=auth/munge\nCryptoType=crypto/munge\nAuthInfo=socket=" + here +
           "/munge.sock,cred_expire=5\nStateSaveLocation=" + here +
           "/state\nSlurmdSpoolDir=" + here + "/spool\nSlurmctldPidFile=" + here +
           "/slurmctld.pid\nSlurmdPidFile=" + here +
           "/slurmd.pid\n"
           "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
           "JobAcctGatherType=jobacct_gather/none\nSelectType=select/cons_tres\n"
           "SelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\nReturnToService=2\n"
           "KillWait=5\nPreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
           "SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1\n"
           "NodeName=" +
           host_ + " NodeAddr=127.0.0.1 CPUs=3 State=UNKNOWN\nPartitionName=low Nodes=" + host_ +
           " Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE\n"
           "PartitionName=high Nodes=" +
           host_ + " MaxTime=INFINITE State=UP PriorityTier=10\n";
  }

  TempDir dir_;
  std::string host_;
  std::vector<std::unique_ptr<BackgroundTool>> daemons_;
  bool up_ = false;
};

}  // namespace seg::test
