/// Pictures of a sweep.
#pragma once
#include <string>
#include <vector>

#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// Draws <folder>/curves.png, the metric and the loss of every run over its steps, and
/// <folder>/metric.png, the metric against each swept value.
/// \return the paths of those written: none before anything is recorded.
std::vector<std::string> write_sweep_plots(const SweepFolder& folder, const SweepSpec& spec,
                                           const std::vector<RunReport>& reports);

}  // namespace seg
