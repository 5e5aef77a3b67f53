#include "runners/start/signals.hpp"

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "registry/log.hpp"

namespace seg {
namespace {

/// What schedulers and terminals send before they kill: Slurm's `--signal=USR1@60`, a closed
/// terminal, a limit of CPU time.
constexpr int kStopSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};

volatile std::sig_atomic_t received_signal = 0;

extern "C" void remember_signal(int signal) {
  received_signal = signal;
  if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);
}

/// The name of this job for scontrol: "123", or "120_4" for a task of an array; "" outside of
/// Slurm.
std::string slurm_job() {
  const char* array = std::getenv("SLURM_ARRAY_JOB_ID");
  const char* task = std::getenv("SLURM_ARRAY_TASK_ID");
  if (array && task) return text(array, "_", task);
  const char* job = std::getenv("SLURM_JOB_ID");
  return job ? job : "";
}

}  // namespace

void watch_stop_signals() {
  received_signal = 0;
  for (const int signal : kStopSignals) {
    struct sigaction action {};
    // nohup ignores SIGHUP for the programs that it starts.
    sigaction(signal, nullptr, &action);
    if (signal == SIGHUP && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = remember_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
}

int stop_signal() { return received_signal; }

std::string stop_signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name ? text("SIG", name) : text("signal ", signal);
}

void check_requeue() {
  if (!slurm_job().empty()) return;
  log::warn(
      "--requeue has no effect: this is no job of Slurm, as the environment has no SLURM_JOB_ID");
}

void requeue_job() {
  const std::string job = slurm_job();
  if (job.empty() || stop_signal() == SIGINT) return;
  std::string output;
  int status = -1;
  // The name is Slurm's, but the environment is anybody's: it is no text of the command.
  setenv("SEGCORE_REQUEUED_JOB", job.c_str(), /*overwrite=*/1);
  if (FILE* pipe = popen("scontrol requeue \"$SEGCORE_REQUEUED_JOB\" 2>&1", "r")) {
    std::array<char, 256> line{};
    while (std::fgets(line.data(), line.size(), pipe)) output += line.data();
    status = pclose(pipe);
  }
  while (!output.empty() && output.back() == '\n') output.pop_back();
  if (status == 0) {
    log::info("Slurm queues job ", job, " again");
  } else {
    log::error("scontrol requeue ", job, " failed: ", output.empty() ? "no output" : output,
               ". Submit the job again; with --resume it continues from the checkpoint");
  }
}

}  // namespace seg
