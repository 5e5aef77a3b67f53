#include "runners/sweep/summary.hpp"

#include <algorithm>

#include "registry/file_text.hpp"
#include "runners/sweep/plots.hpp"
#include "runners/sweep/table.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

/// The best run and what makes it so: "03_lr=0.01: mIoU 45.1 at 800" or a mean over seeds.
struct BestRun {
  const RunReport* report = nullptr;
  std::string words;
};

std::optional<BestRun> best_run(const SweepSpec& spec, const std::vector<RunReport>& reports) {
  const auto groups = groups_of(reports);
  const auto best = best_group(groups, spec.greater_is_better());
  if (!best) return std::nullopt;
  const RunGroup& group = groups[*best];
  const auto with_metric =
      std::find_if(group.members.begin(), group.members.end(),
                   [](const RunReport* member) { return member->result.metric.has_value(); });
  BestRun out{*with_metric, {}};
  if (group.members.size() > 1) {
    out.words = text(out.report->run.name, ": mean ", spec.metric, " ", group.mean(), " of ",
                     group.metrics.size(), " seeds, standard deviation ", group.deviation());
  } else {
    out.words = text(out.report->run.name, ": ", spec.metric, " ", *out.report->result.metric,
                     " at iteration ", out.report->result.metric_step);
  }
  return out;
}

}  // namespace

void write_summary(const SweepFolder& folder, const SweepSpec& spec,
                   const std::vector<RunReport>& reports) {
  const std::string failures = failures_text(reports);
  write_file_atomically(folder.path() + "/summary.txt",
                        table_text(spec, reports, 0) + (failures.empty() ? "" : failures + "\n"));
  write_file_atomically(folder.path() + "/summary.csv", table_csv(spec, reports));
  write_file_atomically(folder.path() + "/summary.json", table_json(spec, reports));
  write_sweep_plots(folder, spec, reports);
}

std::string best_config(const SweepFolder& folder, const SweepSpec& spec,
                        const std::vector<RunReport>& reports) {
  const auto best = best_run(spec, reports);
  if (!best) {
    throw DataError(text("no run in ", folder.path(), " has recorded ", spec.metric, " yet"));
  }
  return "# " + best->words + "\n" + file_text(folder.config_of(best->report->run)).value_or("");
}

std::string status_text(const SweepFolder& folder, const SweepSpec& spec,
                        const std::vector<RunReport>& reports) {
  std::string out = text(folder.path(), ": ", counts_text(reports), "\n");
  if (const auto best = best_run(spec, reports)) out += text("best so far: ", best->words, "\n");
  if (const std::string failures = failures_text(reports); !failures.empty()) {
    out += failures + "\n";
  }
  return out;
}

}  // namespace seg
