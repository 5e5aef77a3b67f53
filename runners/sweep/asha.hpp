/// Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934): runs are compared after the
/// iterations of rung 0, 1, ..., each eta times as many as the one before; the best of eta go on.
///
/// A run may train up to its rung. It is compared by the last value of the metric that it recorded
/// up to there, and waits there with its checkpoint unless it is among the best at once. Whatever
/// decides reads the folder of the sweep alone, so that any process may.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "runners/start/run_config.hpp"
#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// Reports what keeps a config from being compared at rungs.
void check_rungs(const SweepSpec& spec, const RunConfig& config, Diagnostics& problems);

/// Iterations of the rungs below the end of training.
std::vector<int64_t> rungs_of(const SweepSpec& spec, int64_t max_iters);

/// The standing of all runs.
class AshaRule {
 public:
  AshaRule(const SweepSpec& spec, const std::vector<RunReport>& reports);

  /// The iteration at which a run has to wait or be promoted; nothing for one that may run to the
  /// end.
  std::optional<int64_t> next_stop(size_t run) const;
  /// Whether it recorded the metric of its rung.
  bool reached(size_t run) const;
  /// Whether it is among the best of its rung, which it reached.
  bool promotable(size_t run) const;
  /// The paused run to go on: of the highest rung that has a promotable one, the best.
  std::optional<size_t> next_promotion() const;
  /// The one to go on where nothing else is left to do: of the highest rung, the best, so that a
  /// sweep with few trials trains one to the end, too. Nothing if one has ended.
  std::optional<size_t> last_promotion() const;

 private:
  struct Entry {
    RunStatus status = RunStatus::kQueued;
    int64_t rung = 0;            ///< up to which it may run
    std::vector<int64_t> stops;  ///< iterations of its rungs
    std::vector<double> values;  ///< of the rungs reached, in order
  };
  /// Of those paused and wanted: of the highest rung, the best.
  template <class Wanted>
  std::optional<size_t> best_paused(const Wanted& wanted) const;
  bool better(double a, double b) const { return greater_ ? a > b : a < b; }

  bool greater_;
  int64_t eta_;
  std::vector<Entry> entries_;
};

}  // namespace seg
