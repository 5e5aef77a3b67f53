#include "runners/sweep/plots.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "registry/yaml_scalar.hpp"
#include "runners/sweep/table.hpp"
#include "runners/visualization/run_curves.hpp"

namespace seg {
namespace {

constexpr int kPlotWidth = 1000, kAxesHeight = 260, kAxesGap = 66, kSide = 70, kAbove = 34;
constexpr double kTextSize = 13.5;
const InkColour kPointColour{0, 114, 178}, kBestColour{213, 94, 0}, kTextColour{50, 50, 50};

struct ScatterPoint {
  double x = 0, y = 0;
  bool best = false;
};

/// One axis: from pixels and values to places.
struct ScatterAxis {
  double low = 0, high = 1;
  bool log_scale = false;
  double share(double v) const {
    const auto scaled = [&](double value) { return log_scale ? std::log10(value) : value; };
    return (scaled(v) - scaled(low)) / (scaled(high) - scaled(low));
  }
  /// Room at both ends.
  void widen() {
    if (log_scale) {
      const double room = std::pow(high / low, 0.06);
      low /= room > 1 ? room : 1.5, high *= room > 1 ? room : 1.5;
    } else {
      const double room = high > low ? (high - low) * 0.06 : std::max(std::abs(low) * 0.05, 0.5);
      low -= room, high += room;
    }
  }
};

/// A panel: the metric of every run against the values of one key.
struct ScatterPanel {
  std::string label;
  std::vector<ScatterPoint> points;
  std::vector<std::string> words;  ///< of values that are no numbers: at 0, 1, ...
  ScatterAxis x, y;
};

std::optional<double> number_of(const std::string& word) { return detail::float_value(word); }

/// The places of the values on the x axis: the numbers themselves, logarithmic where they span
/// more than a factor of 8; else one place a word.
ScatterPanel panel_of(const SweptColumn& column, const std::vector<RunReport>& reports,
                      const std::string& best) {
  ScatterPanel out;
  out.label = column.label;
  const bool numbers = std::all_of(column.values.begin(), column.values.end(),
                                   [](const auto& v) { return number_of(v).has_value(); });
  constexpr double kFar = std::numeric_limits<double>::infinity();
  out.x.low = out.y.low = kFar;
  out.x.high = out.y.high = -kFar;
  for (size_t i = 0; i < reports.size(); ++i) {
    const auto& metric = reports[i].result.metric;
    if (!metric) continue;
    double x = 0;
    if (numbers) {
      x = *number_of(column.values[i]);
    } else {
      const std::string word = column.values[i].empty() ? "-" : column.values[i];
      const auto found = std::find(out.words.begin(), out.words.end(), word);
      x = static_cast<double>(found - out.words.begin());
      if (found == out.words.end()) out.words.push_back(word);
    }
    out.points.push_back({x, *metric, reports[i].run.name == best});
    out.x.low = std::min(out.x.low, x), out.x.high = std::max(out.x.high, x);
    out.y.low = std::min(out.y.low, *metric), out.y.high = std::max(out.y.high, *metric);
  }
  // The best one is drawn last, so that none covers it.
  std::stable_partition(out.points.begin(), out.points.end(),
                        [](const auto& p) { return !p.best; });
  out.x.log_scale = numbers && out.x.low > 0 && out.x.high / out.x.low > 8;
  out.x.widen();
  out.y.widen();
  return out;
}

void draw_panel(Canvas& canvas, const ScatterPanel& panel, const std::string& metric,
                const cv::Rect2d& box) {
  const Ink grid{.colour = {228, 228, 228}}, axis{.colour = {150, 150, 150}};
  const double bottom = box.y + box.height;
  const auto x_place = [&](double v) { return box.x + panel.x.share(v) * box.width; };
  const auto y_place = [&](double v) { return bottom - panel.y.share(v) * box.height; };
  const auto x_tick = [&](double value, const std::string& words) {
    canvas.line({{x_place(value), box.y}, {x_place(value), bottom}}, grid);
    canvas.text({x_place(value), bottom + 18}, words, kTextSize, Align::kMiddle, kTextColour);
  };
  if (!panel.words.empty()) {
    // Long words of many values would cover each other.
    const size_t room = std::max<size_t>(3, 110 / panel.words.size());
    for (size_t i = 0; i < panel.words.size(); ++i) {
      x_tick(static_cast<double>(i), panel.words[i].substr(0, room));
    }
  } else {
    const auto ticks = panel.x.log_scale ? log_ticks(panel.x.low, panel.x.high)
                                         : round_ticks(panel.x.low, panel.x.high, 8);
    for (const double tick : ticks) {
      const double distance = panel.x.log_scale || ticks.size() < 2 ? tick : ticks[1] - ticks[0];
      x_tick(tick, tick_text(tick, distance));
    }
  }
  const auto y_ticks = round_ticks(panel.y.low, panel.y.high, 4);
  for (const double tick : y_ticks) {
    canvas.line({{box.x, y_place(tick)}, {box.x + box.width, y_place(tick)}}, grid);
    canvas.text({box.x - 8, y_place(tick) + 4.5},
                tick_text(tick, y_ticks.size() > 1 ? y_ticks[1] - y_ticks[0] : 1), kTextSize,
                Align::kRight, kTextColour);
  }
  canvas.frame(box, axis);
  for (const ScatterPoint& point : panel.points) {
    const InkColour& colour = point.best ? kBestColour : kPointColour;
    canvas.disc({x_place(point.x), y_place(point.y)}, point.best ? 6 : 4.5, colour, colour);
  }
  canvas.text({box.x, box.y - 9}, metric, 16.5, Align::kLeft, kTextColour);
  canvas.text({box.x + box.width / 2, bottom + 38}, panel.label, kTextSize, Align::kMiddle,
              kTextColour);
}

void write_curves(const SweepFolder& folder, const SweepSpec& spec,
                  const std::vector<RunReport>& reports, const std::string& path) {
  std::vector<RunLog> logs;
  for (const RunReport& report : reports) {
    if (report.result.iter == 0 && report.result.metrics.empty()) continue;
    logs.push_back(read_run_log(folder.work_dir_of(report.run)));
    logs.back().name = report.run.name;
  }
  std::vector<std::string> keys;
  for (const std::string& wanted : {spec.metric, std::string("loss")}) {
    for (const RunLog& log : logs) {
      for (const Series& series : log.series) {
        const bool named = series.key == wanted || series.key.ends_with("/" + wanted);
        if (named && std::find(keys.begin(), keys.end(), series.key) == keys.end()) {
          keys.push_back(series.key);
        }
      }
    }
  }
  auto panels = curve_panels(logs, keys);
  // The legend takes a row for each long name; a canvas of the usual height would hold no curves.
  constexpr int kLegendRowHeight = 22;
  const int rows = static_cast<int>(logs.size()) / 2;
  write_plot(path, panels, {.height = plot_height(panels.size()) + rows * kLegendRowHeight});
}

}  // namespace

std::vector<std::string> write_sweep_plots(const SweepFolder& folder, const SweepSpec& spec,
                                           const std::vector<RunReport>& reports) {
  const bool recorded = std::any_of(reports.begin(), reports.end(), [](const RunReport& report) {
    return report.result.iter > 0 || report.result.metric;
  });
  if (!recorded) return {};
  std::vector<std::string> out{folder.path() + "/curves.png"};
  write_curves(folder, spec, reports, out[0]);
  const auto groups = groups_of(reports);
  const auto best = best_group(groups, spec.greater_is_better());
  const auto columns = swept_columns(reports);
  if (!best || columns.empty()) return out;
  const std::string name = groups[*best].members[0]->run.name;
  const auto count = static_cast<int>(columns.size());
  out.push_back(folder.path() + "/metric.png");
  const auto canvas = canvas_for(out[1], kPlotWidth, kAbove + count * (kAxesHeight + kAxesGap));
  for (int i = 0; i < count; ++i) {
    const cv::Rect2d box(kSide, kAbove + i * (kAxesHeight + kAxesGap), kPlotWidth - kSide - 30,
                         kAxesHeight);
    draw_panel(*canvas, panel_of(columns[static_cast<size_t>(i)], reports, name), spec.metric, box);
  }
  canvas->write(out[1]);
  return out;
}

}  // namespace seg
