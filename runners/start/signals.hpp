/// Remembers that the system asked the program to end, so that a run can finish its step first.
#pragma once
#include <string>

namespace seg {

/// The exit code of a run that a signal ended.
constexpr int kStoppedBySignal = 20;

/// From now on SIGTERM, SIGINT, SIGHUP (unless nohup ignores it), SIGUSR1, SIGUSR2 and SIGXCPU are
/// remembered. A second SIGINT ends the program at once.
void watch_stop_signals();
/// The signal that came, or 0.
int stop_signal();
/// "SIGTERM".
std::string stop_signal_name(int signal);

}  // namespace seg
