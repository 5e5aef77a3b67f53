/// What a sweep comes to.
#pragma once
#include <string>
#include <vector>

#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// Writes summary.txt, summary.csv, summary.json and the plots into the sweep's folder.
void write_summary(const SweepFolder& folder, const SweepSpec& spec,
                   const std::vector<RunReport>& reports);

/// The resolved config of the best run, below a comment that names it and its metric.
/// \throws DataError if no run recorded the metric.
std::string best_config(const SweepFolder& folder, const SweepSpec& spec,
                        const std::vector<RunReport>& reports);

/// Counts of the runs, the best so far, and the errors of those that failed.
std::string status_text(const SweepFolder& folder, const SweepSpec& spec,
                        const std::vector<RunReport>& reports);

}  // namespace seg
