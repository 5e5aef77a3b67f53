/// Starts a sweep, or goes on with it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/plan.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

struct SweepOptions {
  std::optional<std::string> work_dir;  ///< else ./work_dirs/<name of the file>
  std::vector<std::string> overrides;   ///< of the sweep's file
};

/// What a start would run, a line a run.
/// \throws ConfigError with the errors of all runs.
std::string sweep_listing(const std::string& path, const SweepOptions& options);

/// Checks all runs, then trains those that did not end yet: waits for them under `engine: local`,
/// submits them under `engine: slurm`.
/// \return 0, or 1 if a run failed.
/// \throws RunEnded with 20 where a signal stopped it; ConfigError; DataError where another sweep
/// or
///         another start of this one has the folder.
int start_sweep(const std::string& path, const SweepOptions& options);

/// The same of a sweep that was read, in a folder.
/// \param edit  of each base.
int start_sweep(const SweepSpec& spec, const SweepFolder& folder, const BaseEdit& edit = {});

/// The same for a folder whose failed runs are to be run again.
int retry_sweep(const std::string& path);

}  // namespace seg
