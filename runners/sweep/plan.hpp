/// From the file of a sweep to its runs, each with a checked config.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// A run with its resolved config, which was checked.
struct PlannedRun {
  SweepRun run;
  std::string config;      ///< YAML
  bool in_folder = false;  ///< the folder has it already
};

/// What changes the resolved config of each base before anything of the space does; empty: nothing.
using BaseEdit = std::function<void(Config&)>;

/// Resolves the config of every run, and checks those that the folder does not have yet, as
/// `print_config --check` does. Runs whose configs are equal are one. Runs of the folder keep their
/// names and numbers; further ones may be added.
/// \throws ConfigError with the errors of all runs.
/// \throws DataError if the folder holds a run that this sweep has not.
std::vector<PlannedRun> plan_sweep(const SweepSpec& spec, const SweepFolder& folder,
                                   const BaseEdit& edit = {});

}  // namespace seg
