#include "runners/sweep/results.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "runners/visualization/run_log.hpp"

namespace seg {
namespace {

/// The series of a metric, under its own name or below a prefix ("val/mIoU").
const Series* metric_series(const RunLog& log, const std::string& metric) {
  if (const Series* exact = log.find(metric)) return exact;
  for (const Series& series : log.series) {
    if (series.key.ends_with("/" + metric)) return &series;
  }
  return nullptr;
}

/// Seconds of a step: the mean of the last times that were logged.
std::optional<double> step_time(const RunLog& log) {
  for (const Series& series : log.series) {
    if (!series.training || (series.key != "time" && series.key != "train/time")) continue;
    constexpr size_t kRecent = 5;
    const size_t count = std::min(kRecent, series.points.size());
    double sum = 0;
    for (size_t i = series.points.size() - count; i < series.points.size(); ++i) {
      sum += series.points[i].second;
    }
    if (count > 0) return sum / static_cast<double>(count);
  }
  return std::nullopt;
}

void read_metric(const RunLog& log, const SweepSpec& spec, RunResult& out) {
  const Series* series = metric_series(log, spec.metric);
  if (!series) return;
  for (const auto& [step, value] : series->points) {
    if (!std::isfinite(value)) continue;
    out.metrics.emplace_back(step, value);
    const bool better = !out.metric || series->training ||
                        (spec.greater_is_better() ? value > *out.metric : value < *out.metric);
    if (!better) continue;
    out.metric = value;
    out.metric_step = step;
  }
}

}  // namespace

RunResult result_of(const SweepFolder& folder, const SweepRun& run, const SweepSpec& spec) {
  RunResult out;
  out.max_iters = run.max_iters;
  RunLog log;
  try {
    log = read_run_log(folder.work_dir_of(run));
  } catch (const DataError&) {
    return out;  // nothing is recorded yet
  }
  for (const Series& series : log.series) {
    if (!series.training || series.points.empty()) continue;
    out.iter = std::max(out.iter, series.points.back().first);
  }
  if (run.max_epochs && log.epoch_steps > 0) out.max_iters = *run.max_epochs * log.epoch_steps;
  read_metric(log, spec, out);
  const auto time = step_time(log);
  if (time && out.max_iters) {
    out.eta_s = *time * static_cast<double>(std::max<int64_t>(0, *out.max_iters - out.iter));
  }
  return out;
}

std::vector<RunReport> ReportReader::read() {
  std::vector<RunReport> out;
  for (SweepRun& run : folder_.runs()) {
    RunReport report{std::move(run), {}, {}, {}};
    report.state = folder_.state_of(report.run);
    report.status = report.state.status;
    // A process of Slurm may run on another machine, which its queue knows more of.
    const bool here = report.state.job.empty();
    if (report.status == RunStatus::kRunning && here && !report.state.process.alive()) {
      report.status = RunStatus::kQueued;
    }
    const auto known = known_.find(report.run.number);
    const bool same = known != known_.end() && known->second.status == report.status &&
                      known->second.state.starts == report.state.starts;
    if (same && report.status != RunStatus::kRunning) {
      report.result = known->second.result;
    } else {
      report.result = result_of(folder_, report.run, spec_);
    }
    if (report.status != RunStatus::kRunning) report.result.eta_s.reset();
    known_[report.run.number] = report;
    out.push_back(std::move(report));
  }
  return out;
}

std::vector<RunReport> read_reports(const SweepFolder& folder, const SweepSpec& spec) {
  return ReportReader(folder, spec).read();
}

double RunGroup::mean() const {
  return std::accumulate(metrics.begin(), metrics.end(), 0.0) /
         static_cast<double>(std::max<size_t>(1, metrics.size()));
}

double RunGroup::deviation() const {
  if (metrics.size() < 2) return 0;
  double sum = 0;
  for (const double value : metrics) sum += (value - mean()) * (value - mean());
  return std::sqrt(sum / static_cast<double>(metrics.size() - 1));
}

std::vector<RunGroup> groups_of(const std::vector<RunReport>& reports) {
  std::vector<RunGroup> out;
  std::map<std::string, size_t> places;
  for (const RunReport& report : reports) {
    const auto [place, fresh] = places.emplace(report.run.group(), out.size());
    if (fresh) out.emplace_back();
    RunGroup& group = out[place->second];
    group.members.push_back(&report);
    if (report.result.metric) group.metrics.push_back(*report.result.metric);
  }
  return out;
}

std::optional<size_t> best_group(const std::vector<RunGroup>& groups, bool greater) {
  std::optional<size_t> best;
  const auto ended = [](const RunGroup& group) {
    return std::all_of(group.members.begin(), group.members.end(),
                       [](const RunReport* member) { return member->status == RunStatus::kEnded; });
  };
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].metrics.empty()) continue;
    if (!best) {
      best = i;
      continue;
    }
    const RunGroup& other = groups[*best];
    const bool better = greater ? groups[i].mean() > other.mean() : groups[i].mean() < other.mean();
    if (ended(groups[i]) != ended(other) ? ended(groups[i]) : better) best = i;
  }
  return best;
}

std::string counts_text(const std::vector<RunReport>& reports) {
  std::vector<std::string> parts;
  for (const RunStatus status : {RunStatus::kEnded, RunStatus::kRunning, RunStatus::kPaused,
                                 RunStatus::kStopped, RunStatus::kFailed, RunStatus::kQueued}) {
    const auto count = std::count_if(reports.begin(), reports.end(),
                                     [&](const RunReport& r) { return r.status == status; });
    if (count > 0) parts.push_back(text(count, " ", status_word(status)));
  }
  return join(parts, ", ");
}

}  // namespace seg
