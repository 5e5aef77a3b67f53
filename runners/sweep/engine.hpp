/// What starts the runs of a sweep.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// Why no more runs may be started ("" where they may): the first part of the budget that is used
/// up.
std::string budget_reached(const SweepSpec& spec, const SweepFolder& folder,
                           const std::vector<RunReport>& reports);

/// Shows how a sweep goes on, to people.
class SweepDisplay {
 public:
  virtual ~SweepDisplay() = default;
  /// Called a few times a second with the present state.
  virtual void show(const std::vector<RunReport>& reports) = 0;
};

/// Runs all that is left to do on this machine, `parallel` at a time, and waits for it. Processes
/// of an earlier start that are still alive count among them. Each run is a process of its own
/// session, so that it outlives this one, and a Ctrl-C of the terminal reaches it as one signal.
/// \return 0, or 20 where a signal ended it: then all runs were stopped with a checkpoint.
int run_local(const SweepFolder& folder, const SweepSpec& spec, SweepDisplay& display);

}  // namespace seg
