#include "runners/visualization/run_curves.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace seg {
namespace {

namespace fs = std::filesystem;

/// Where values are numerous, single ones hide the course.
constexpr size_t kFewPoints = 50;
constexpr double kUsualSmoothing = 0.85;

/// What is best of values whose name says it: the least loss, the highest metric.
std::optional<std::pair<double, double>> best_point(const Series& series, const PlotCurve& curve) {
  const bool loss = series.key.find("loss") != std::string::npos;
  if (series.key == "time" || series.key == "data_time" || (series.training && !loss)) {
    return std::nullopt;
  }
  // A single low batch is no progress: the smoothed line is what is read.
  const auto line = curve.smoothing > 0 ? smoothed(curve.points, curve.smoothing) : curve.points;
  std::optional<std::pair<double, double>> best;
  for (const auto& point : line) {
    if (!std::isfinite(point.second)) continue;
    if (!best || (loss ? point.second < best->second : point.second > best->second)) best = point;
  }
  return best;
}

PlotCurve run_curve(const RunLog& run, const Series& series, const CurveOptions& options,
                    bool in_steps) {
  PlotCurve curve;
  curve.name = run.name;
  const double unit = series.by_epoch && in_steps ? static_cast<double>(run.epoch_steps) : 1;
  for (const auto& [step, value] : series.points) {
    curve.points.emplace_back(static_cast<double>(step) * unit, value);
  }
  // Rates follow a schedule: there is nothing to average.
  if (series.training && !series.key.ends_with("lr") && curve.points.size() > 2) {
    curve.smoothing =
        options.smoothing.value_or(curve.points.size() > kFewPoints ? kUsualSmoothing : 0);
  }
  if (!series.by_epoch || in_steps) curve.resumes.assign(run.resumes.begin(), run.resumes.end());
  curve.best = best_point(series, curve);
  return curve;
}

}  // namespace

std::vector<PlotPanel> curve_panels(const std::vector<RunLog>& runs,
                                    const std::vector<std::string>& keys,
                                    const CurveOptions& options) {
  // Epochs can be shown as steps where all runs tell how long theirs are.
  const bool in_steps = std::all_of(runs.begin(), runs.end(), [](const RunLog& run) {
    const bool epochs = std::any_of(run.series.begin(), run.series.end(),
                                    [](const Series& s) { return s.by_epoch; });
    return !epochs || run.epoch_steps > 0;
  });
  std::vector<PlotPanel> panels;
  for (const std::string& key : keys) {
    PlotPanel panel{.title = key, .x_label = "step", .curves = {}, .log_scale = options.log_scale};
    for (const RunLog& run : runs) {
      const Series* series = run.find(key);
      if (series && series->by_epoch && !in_steps) panel.x_label = "epoch";
      panel.curves.push_back(series ? run_curve(run, *series, options, in_steps)
                                    : PlotCurve{.name = run.name});
    }
    panels.push_back(std::move(panel));
  }
  return panels;
}

bool write_run_curves(const std::string& work_dir) {
  bool recorded = false;
  for (const auto& launch : fs::directory_iterator(work_dir)) {
    const fs::path file = launch.path() / "vis_data" / "scalars.json";
    std::error_code none;
    recorded = recorded || (fs::is_regular_file(file, none) && fs::file_size(file, none) > 0);
  }
  if (!recorded) return false;
  const std::vector<RunLog> runs{read_run_log(work_dir)};
  write_plot((fs::path(work_dir) / "curves.png").string(), curve_panels(runs, usual_keys(runs)));
  return true;
}

}  // namespace seg
