#include "runners/sweep/start.hpp"

#include <algorithm>
#include <filesystem>

#include "registry/log.hpp"
#include "registry/yaml.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/display.hpp"
#include "runners/sweep/slurm.hpp"
#include "runners/sweep/summary.hpp"
#include "runners/sweep/table.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

SweepFolder folder_for(const std::string& path, const SweepOptions& options) {
  return SweepFolder(options.work_dir.value_or("work_dirs/" + fs::path(path).stem().string()));
}

FolderLock lock_sweep(const SweepFolder& folder) {
  auto lock = FolderLock::attempt(folder.path());
  if (!lock) {
    throw DataError(text("the sweep in ", folder.path(),
                         " is being run by another process: 'sweep table ", folder.path(),
                         "' shows it"));
  }
  return std::move(*lock);
}

/// Runs or submits what is left to do, and tells how it ended.
int run_engine(const SweepFolder& folder, const SweepSpec& spec) {
  if (spec.engine == "slurm") {
    log::info(submit_to_slurm(folder, spec), "; 'sweep table ", folder.path(), "' shows them");
    return 0;
  }
  fs::current_path(folder.start_folder());
  const int code = [&] {
    const auto display = make_display(spec);
    return run_local(folder, spec, *display);
  }();
  const auto reports = read_reports(folder, spec);
  write_summary(folder, spec, reports);
  if (code != 0) {
    throw RunEnded(code, text("stopped by ", stop_signal_name(stop_signal()), "; ",
                              counts_text(reports), "; the same command continues"));
  }
  std::fputs(table_text(spec, reports, 0).c_str(), stdout);
  const std::string failures = failures_text(reports);
  if (failures.empty()) {
    const auto stopped = std::count_if(reports.begin(), reports.end(), [](const RunReport& r) {
      return r.status == RunStatus::kStopped;
    });
    if (stopped == 0) return 0;
    throw RunEnded(kStoppedBySignal, text(stopped, stopped == 1 ? " run was" : " runs were",
                                          " stopped by signals; the same command continues"));
  }
  log::error(failures, "\n'sweep retry ", folder.path(), "' runs them again");
  return 1;
}

}  // namespace

std::string sweep_listing(const std::string& path, const SweepOptions& options) {
  const SweepSpec spec = load_sweep(path, options.overrides);
  const SweepFolder folder = folder_for(path, options);
  const auto planned = plan_sweep(spec, folder);
  std::string out;
  int64_t iterations = 0;
  for (const PlannedRun& one : planned) {
    iterations += one.run.max_iters.value_or(0);
    out += one.run.name;
    if (one.in_folder) out += "  (" + status_word(folder.state_of(one.run).status) + ")";
    out += "\n";
    if (spec.base.values.size() > 1) out += "  " + one.run.base + "\n";
    for (const auto& [key, value] : one.run.changes) {
      out += text("  ", key, ": ", dump_flow(value), "\n");
    }
    if (one.run.seed) out += text("  randomness.seed: ", *one.run.seed, "\n");
  }
  return out + text(planned.size(), planned.size() == 1 ? " run" : " runs", " in ", folder.path(),
                    iterations > 0 ? text(", ", iterations, " iterations") : "",
                    spec.uses_asha() ? " if none were stopped early" : "", "\n");
}

int start_sweep(const std::string& path, const SweepOptions& options) {
  return start_sweep(load_sweep(path, options.overrides), folder_for(path, options));
}

int start_sweep(const SweepSpec& spec, const SweepFolder& folder, const BaseEdit& edit) {
  std::optional<FolderLock> lock;
  if (fs::exists(folder.path())) lock = lock_sweep(folder);
  const auto planned = plan_sweep(spec, folder, edit);
  if (!lock) {
    make_folders(folder.path());
    lock = lock_sweep(folder);
  }
  folder.record_start();
  write_file_atomically(folder.sweep_file(), dump_yaml(spec.tree));
  for (const PlannedRun& one : planned) {
    if (!one.in_folder) folder.add_run(one.run, one.config);
  }
  return run_engine(folder, spec);
}

int retry_sweep(const std::string& path) {
  const SweepFolder folder = SweepFolder::existing(path);
  const FolderLock lock = lock_sweep(folder);
  const SweepSpec spec = load_sweep(folder.sweep_file());
  size_t failed = 0;
  for (const SweepRun& run : folder.runs()) {
    RunState state = folder.state_of(run);
    if (state.status != RunStatus::kFailed) continue;
    state.status = RunStatus::kQueued;
    folder.write_state(run, state);
    ++failed;
  }
  log::info(failed, failed == 1 ? " failed run is" : " failed runs are", " run again");
  return run_engine(folder, spec);
}

}  // namespace seg
