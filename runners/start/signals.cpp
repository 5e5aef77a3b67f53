#include "runners/start/signals.hpp"

#include <csignal>
#include <cstring>

#include "registry/text.hpp"

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

}  // namespace seg
