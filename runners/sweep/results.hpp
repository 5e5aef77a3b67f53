/// What the runs of a sweep recorded so far.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

struct RunResult {
  int64_t iter = 0;
  std::optional<int64_t> max_iters;
  std::optional<double> eta_s;  ///< seconds to the end, of a run that is running
  /// The best value of the metric so far and its step; of a value of training steps the last.
  std::optional<double> metric;
  int64_t metric_step = 0;
  /// Each recorded value of the metric by step.
  std::vector<std::pair<int64_t, double>> metrics;
};

/// Reads the scalars.json of the run's work dir. One that recorded nothing yet has no values.
RunResult result_of(const SweepFolder& folder, const SweepRun& run, const SweepSpec& spec);

/// A run with its state and result.
struct RunReport {
  SweepRun run;
  RunState state;
  RunResult result;
  /// What `state` and the process that it names come to: a running one whose process died, on this
  /// machine, is queued.
  RunStatus status = RunStatus::kQueued;
};

/// Reads all runs again and again; what those that are not running recorded only once.
class ReportReader {
 public:
  /// Both must outlive this one.
  ReportReader(const SweepFolder& folder, const SweepSpec& spec) : folder_(folder), spec_(spec) {}
  std::vector<RunReport> read();

 private:
  const SweepFolder& folder_;
  const SweepSpec& spec_;
  std::map<size_t, RunReport> known_;  ///< by number
};

std::vector<RunReport> read_reports(const SweepFolder& folder, const SweepSpec& spec);

/// Runs that differ by their seed alone.
struct RunGroup {
  std::vector<const RunReport*> members;
  std::vector<double> metrics;  ///< of members that have one
  double mean() const;
  double deviation() const;  ///< of a sample; 0 for one value
};

/// In order of their first members.
std::vector<RunGroup> groups_of(const std::vector<RunReport>& reports);

/// The place of the best group among those with a metric. Groups whose members all ended come
/// before others.
std::optional<size_t> best_group(const std::vector<RunGroup>& groups, bool greater);

/// "3 ended, 1 failed, 2 queued", without those of which there are none.
std::string counts_text(const std::vector<RunReport>& reports);

}  // namespace seg
