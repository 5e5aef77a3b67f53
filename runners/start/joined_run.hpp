/// What surrounds a training or a test of any number of processes.
#pragma once
#include <functional>

#include "runners/start/run_info.hpp"

namespace seg {

/// Runs `body` with the flight record of this process open, and leaves together with the others.
/// Where `body` throws, the record is written as <log_dir>/flight_<rank>.json, and the others learn
/// why this process ends.
void run_joined(const RunInfo& run, const std::function<void()>& body);

}  // namespace seg
