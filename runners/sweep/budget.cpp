#include <ctime>

#include "runners/sweep/engine.hpp"

namespace seg {

std::string budget_reached(const SweepSpec& spec, const SweepFolder& folder,
                           const std::vector<RunReport>& reports) {
  int64_t runs = 0, iterations = 0;
  for (const RunReport& report : reports) {
    if (report.state.starts == 0) continue;
    ++runs;
    // One that is running will do the rest of its own, unless it waits at a rung first.
    const bool whole = report.status == RunStatus::kRunning && !spec.uses_asha();
    iterations += whole ? report.result.max_iters.value_or(report.result.iter) : report.result.iter;
  }
  const SweepBudget& budget = spec.budget;
  if (budget.runs && runs >= *budget.runs) return text(*budget.runs, " runs");
  if (budget.iterations && iterations >= *budget.iterations) {
    return text(*budget.iterations, " iterations");
  }
  const auto seconds = static_cast<double>(std::time(nullptr) - folder.start_time());
  if (budget.hours && seconds >= *budget.hours * 3600) return text(*budget.hours, " hours");
  return "";
}

}  // namespace seg
