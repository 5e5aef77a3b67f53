#include "runners/visualization/plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "registry/printed.hpp"

namespace seg {
namespace {

// Colours that stay apart also for colour-blind readers (Wong 2011).
const std::array<InkColour, 8> kPlotColours = {InkColour{0, 114, 178},   InkColour{213, 94, 0},
                                               InkColour{0, 158, 115},   InkColour{204, 121, 167},
                                               InkColour{230, 159, 0},   InkColour{86, 180, 233},
                                               InkColour{150, 110, 190}, InkColour{90, 90, 90}};
const InkColour kPlotText{50, 50, 50}, kPlotPale{120, 120, 120};
const Ink kPlotGrid{.colour = {228, 228, 228}}, kPlotAxis{.colour = {150, 150, 150}};
constexpr double kTickSize = 13.5, kTitleSize = 16.5, kHeadSize = 21;
// Pixels of a plot from its top to its bottom.
constexpr int kMargin = 14, kHeadRow = 34, kLegendRow = 22, kLegendGap = 6, kPanelTitle = 26,
              kPanelGap = 22, kXTicks = 22, kXLabel = 18, kPanelHeight = 215;

InkColour plot_colour(size_t curve) { return kPlotColours[curve % kPlotColours.size()]; }

struct PlotRange {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  /// A range that is never empty, with room at its ends.
  void widen(double share) {
    if (!(low <= high)) low = 0, high = 1;
    const double span = high - low;
    const double room = span > 0 ? span * share : std::max(std::abs(low) * 0.05, 1e-3);
    if (span > 0 || share > 0) low -= room, high += room;
    if (!(high > low)) low -= 0.5, high += 0.5;
  }
};

/// Values of one axis and their places on it.
class PlotAxis {
 public:
  PlotAxis() = default;
  PlotAxis(PlotRange range, bool log_scale) : range_(range), log_(log_scale) {}
  /// From 0 at `low` to 1 at `high`.
  double share(double v) const {
    return (scaled(v) - scaled(range_.low)) / (scaled(range_.high) - scaled(range_.low));
  }
  std::vector<double> ticks(int wanted) const {
    return log_ ? log_ticks(range_.low, range_.high) : round_ticks(range_.low, range_.high, wanted);
  }
  std::vector<std::string> labels(const std::vector<double>& ticks) const {
    std::vector<std::string> out;
    for (size_t i = 0; i < ticks.size(); ++i) {
      // Each tick of a logarithmic axis has the digits of its own size.
      const double distance = log_ ? ticks[i] : ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
      out.push_back(tick_text(ticks[i], distance));
    }
    return out;
  }

 private:
  double scaled(double v) const { return log_ ? std::log10(v) : v; }
  PlotRange range_{0, 1};
  bool log_ = false;
};

bool drawable(const PlotPanel& panel, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!panel.log_scale || y > 0);
}

PlotAxis y_axis(const PlotPanel& panel) {
  PlotRange range;
  for (const PlotCurve& curve : panel.curves) {
    for (const auto& [x, y] : curve.points) {
      if (drawable(panel, x, y)) range.add(panel.log_scale ? std::log10(y) : y);
    }
  }
  range.widen(0.07);
  if (panel.log_scale) range = {std::pow(10.0, range.low), std::pow(10.0, range.high)};
  return {range, panel.log_scale};
}

/// From 0, so that panels whose values begin at different steps can be compared by eye.
PlotAxis x_axis(const std::vector<PlotPanel>& panels, const std::string& label) {
  PlotRange range;
  range.add(0);
  for (const PlotPanel& panel : panels) {
    if (panel.x_label != label) continue;
    for (const PlotCurve& curve : panel.curves) {
      for (const auto& [x, y] : curve.points) {
        if (drawable(panel, x, y)) range.add(x);
      }
    }
  }
  if (!(range.high > range.low)) range.high = range.low + 1;
  return {range, false};
}

/// One entry of the legend.
struct LegendEntry {
  enum Kind { kCurve, kRaw, kBest, kResume } kind = kCurve;
  std::string name;
  InkColour colour;
};

std::vector<LegendEntry> legend_of(const std::vector<PlotPanel>& panels) {
  std::vector<LegendEntry> out;
  bool raw = false, best = false, resumed = false;
  size_t most = 0;
  for (const PlotPanel& panel : panels) {
    for (size_t i = 0; i < panel.curves.size(); ++i) {
      const PlotCurve& curve = panel.curves[i];
      raw = raw || curve.smoothing > 0;
      best = best || curve.best.has_value();
      resumed = resumed || !curve.resumes.empty();
      if (i == most) out.push_back({LegendEntry::kCurve, curve.name, plot_colour(most++)});
    }
  }
  const InkColour shown = most == 1 ? plot_colour(0) : kPlotPale;
  if (most <= 1 && !raw) out.clear();
  if (most <= 1 && raw) out.at(0).name = "smoothed";
  if (raw) out.push_back({LegendEntry::kRaw, "as recorded", shown});
  if (best) out.push_back({LegendEntry::kBest, "best", shown});
  if (resumed) out.push_back({LegendEntry::kResume, "resumed", shown});
  return out;
}

/// The words, or their beginning and "..." where they are wider than `room`.
std::string fitting_words(const Canvas& canvas, const std::string& words, double size,
                          double room) {
  if (canvas.text_width(words, size) <= room) return words;
  std::string out = words;
  const auto inside_character = [&] {
    return (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80;
  };
  do {
    while (out.size() > 1 && inside_character()) out.pop_back();
    out.pop_back();
  } while (!out.empty() && canvas.text_width(out + "...", size) > room);
  return out + "...";
}

/// Writes the legend in rows of the plot's width. \return the height that it takes.
double draw_legend(Canvas& canvas, const std::vector<LegendEntry>& entries, double top) {
  if (entries.empty()) return 0;
  constexpr double kSwatch = 24, kPad = 7, kBetween = 22;
  double x = kMargin, y = top + kLegendRow / 2.0;
  for (const LegendEntry& entry : entries) {
    const std::string name =
        fitting_words(canvas, entry.name, kTickSize, canvas.width() - 2 * kMargin - kSwatch - kPad);
    const double width = kSwatch + kPad + canvas.text_width(name, kTickSize);
    if (x > kMargin && x + width > canvas.width() - kMargin) x = kMargin, y += kLegendRow;
    switch (entry.kind) {
      case LegendEntry::kCurve:
        canvas.line({{x, y}, {x + kSwatch, y}}, {.colour = entry.colour, .width = 2});
        break;
      case LegendEntry::kRaw:
        canvas.line({{x, y}, {x + kSwatch, y}}, {.colour = faint(entry.colour, 0.35)});
        break;
      case LegendEntry::kBest:
        canvas.disc({x + kSwatch / 2, y}, 5, faint(entry.colour, 0), entry.colour);
        break;
      case LegendEntry::kResume:
        canvas.line({{x + kSwatch / 2, y - 8}, {x + kSwatch / 2, y + 8}},
                    {.colour = faint(entry.colour, 0.7), .dashed = true});
        break;
    }
    canvas.text({x + kSwatch + kPad, y + 4.5}, name, kTickSize, Align::kLeft, kPlotText);
    x += width + kBetween;
  }
  return y + kLegendRow / 2.0 + kLegendGap - top;
}

/// What one panel is drawn with.
class PanelPainter {
 public:
  PanelPainter(Canvas& canvas, cv::Rect2d box, const PlotPanel& panel, PlotAxis x, PlotAxis y)
      : canvas_(canvas), box_(box), panel_(panel), x_(x), y_(y) {}

  /// \param x_ticks  whether numbers and label stand below the panel.
  void paint(bool x_ticks) {
    paint_axes(x_ticks);
    for (size_t i = 0; i < panel_.curves.size(); ++i) paint_resumes(i);
    for (size_t i = 0; i < panel_.curves.size(); ++i) paint_curve(i);
    canvas_.frame(box_, kPlotAxis);
    for (size_t i = 0; i < panel_.curves.size(); ++i) paint_best(i);
    paint_title();
  }

 private:
  cv::Point2d place(double x, double y) const {
    return {box_.x + x_.share(x) * box_.width, box_.y + (1 - y_.share(y)) * box_.height};
  }
  double right() const { return box_.x + box_.width; }
  double bottom() const { return box_.y + box_.height; }

  void paint_axes(bool x_ticks) {
    const auto ticks = x_.ticks(std::max(2, static_cast<int>(box_.width / 110)));
    const auto labels = x_.labels(ticks);
    for (size_t i = 0; i < ticks.size(); ++i) {
      const double x = box_.x + x_.share(ticks[i]) * box_.width;
      canvas_.line({{x, box_.y}, {x, bottom()}}, kPlotGrid);
      if (!x_ticks) continue;
      canvas_.text({x, bottom() + 17}, labels[i], kTickSize, Align::kMiddle, kPlotText);
    }
    const auto y_ticks = y_.ticks(4);
    const auto y_labels = y_.labels(y_ticks);
    for (size_t i = 0; i < y_ticks.size(); ++i) {
      const double y = box_.y + (1 - y_.share(y_ticks[i])) * box_.height;
      canvas_.line({{box_.x, y}, {right(), y}}, kPlotGrid);
      canvas_.text({box_.x - 8, y + 4.5}, y_labels[i], kTickSize, Align::kRight, kPlotText);
    }
    if (!x_ticks) return;
    canvas_.text({box_.x + box_.width / 2, bottom() + 17 + kXLabel}, panel_.x_label, kTickSize,
                 Align::kMiddle, kPlotText);
  }

  void paint_resumes(size_t index) {
    const InkColour colour = faint(plot_colour(index), 0.7);
    for (const double x : panel_.curves[index].resumes) {
      const double at = box_.x + x_.share(x) * box_.width;
      if (at <= box_.x || at >= right()) continue;
      canvas_.line({{at, box_.y}, {at, bottom()}}, {.colour = colour, .dashed = true});
    }
  }

  void paint_line(const std::vector<std::pair<double, double>>& points, const Ink& ink,
                  bool marks) {
    std::vector<cv::Point2d> piece;
    const auto draw_piece = [&] {
      canvas_.line(piece, ink);
      for (const auto& p : piece) {
        if (marks || piece.size() == 1) canvas_.disc(p, 2.75, ink.colour, ink.colour);
      }
      piece.clear();
    };
    for (const auto& [x, y] : points) {
      if (drawable(panel_, x, y)) {
        piece.push_back(place(x, y));
      } else {
        draw_piece();
      }
    }
    draw_piece();
  }

  void paint_curve(size_t index) {
    const PlotCurve& curve = panel_.curves[index];
    const InkColour colour = plot_colour(index);
    const Ink line{.colour = colour, .width = 2};
    if (curve.smoothing > 0) {
      paint_line(curve.points, {.colour = faint(colour, 0.35)}, /*marks=*/false);
      paint_line(smoothed(curve.points, curve.smoothing), line, /*marks=*/false);
    } else {
      paint_line(curve.points, line, /*marks=*/curve.points.size() <= 40);
    }
  }

  void paint_best(size_t index) {
    const auto& best = panel_.curves[index].best;
    if (!best || !drawable(panel_, best->first, best->second)) return;
    canvas_.disc(place(best->first, best->second), 5, {255, 255, 255}, plot_colour(index));
  }

  /// The title at the left, the best values at the right as far as there is room.
  void paint_title() {
    const double y = box_.y - 9;
    canvas_.text({box_.x, y}, panel_.title, kTitleSize, Align::kLeft, kPlotText);
    const double left = box_.x + canvas_.text_width(panel_.title, kTitleSize) + 20;
    double x = right();
    for (size_t i = panel_.curves.size(); i-- > 0;) {
      const auto& best = panel_.curves[i].best;
      if (!best) continue;
      const std::string words = printed("best %.4g at ", best->second) +
                                tick_text(best->first, best->first >= 100000 ? 100 : 1);
      const double width = canvas_.text_width(words, kTickSize);
      if (x - width < left) return;
      canvas_.text({x, y}, words, kTickSize, Align::kRight, plot_colour(i));
      x -= width + 22;
    }
  }

  Canvas& canvas_;
  cv::Rect2d box_;
  const PlotPanel& panel_;
  PlotAxis x_, y_;
};

}  // namespace

std::vector<std::pair<double, double>> smoothed(
    const std::vector<std::pair<double, double>>& points, double weight) {
  std::vector<std::pair<double, double>> out;
  double sum = 0, weights = 0;
  for (const auto& [x, y] : points) {
    if (!std::isfinite(y)) {
      out.emplace_back(x, y);
      continue;
    }
    sum = weight * sum + y;
    weights = weight * weights + 1;
    out.emplace_back(x, sum / weights);
  }
  return out;
}

std::vector<double> log_ticks(double low, double high) {
  const double decades = std::log10(high) - std::log10(low);
  const std::vector<double> digits =
      decades > 2.5 ? std::vector<double>{1} : std::vector<double>{1, 2, 5};
  const double step = std::max(1.0, std::floor(decades / 6));
  std::vector<double> out;
  for (double power = std::floor(std::log10(low)); power <= std::log10(high); power += step) {
    for (const double digit : digits) {
      const double tick = digit * std::pow(10.0, power);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) out.push_back(tick);
    }
  }
  return out.size() < 2 ? round_ticks(low, high, 4) : out;
}

int plot_height(size_t panels) {
  const int count = std::max(1, static_cast<int>(panels));
  return kMargin + kLegendRow + kLegendGap + kXTicks + kXLabel + kMargin +
         count * (kPanelTitle + kPanelHeight) + (count - 1) * kPanelGap;
}

void draw_plot(Canvas& canvas, const std::vector<PlotPanel>& panels, const std::string& title) {
  double top = kMargin;
  if (!title.empty()) {
    canvas.text({canvas.width() / 2.0, top + 16},
                fitting_words(canvas, title, kHeadSize, canvas.width() - 2 * kMargin), kHeadSize,
                Align::kMiddle, kPlotText);
    top += kHeadRow;
  }
  if (panels.empty()) return;
  top += draw_legend(canvas, legend_of(panels), top);
  std::map<std::string, PlotAxis> x_axes;
  std::vector<PlotAxis> y_axes;
  double left = 0;  // the widest number, so that all panels begin at one place
  for (const PlotPanel& panel : panels) {
    x_axes.try_emplace(panel.x_label, x_axis(panels, panel.x_label));
    y_axes.push_back(y_axis(panel));
    for (const auto& label : y_axes.back().labels(y_axes.back().ticks(4))) {
      left = std::max(left, canvas.text_width(label, kTickSize));
    }
  }
  // Numbers stand below the last panel of each x axis.
  const auto has_ticks = [&](size_t i) {
    return i + 1 == panels.size() || panels[i].x_label != panels[i + 1].x_label;
  };
  double fixed = top + kMargin;
  for (size_t i = 0; i < panels.size(); ++i) {
    fixed += kPanelTitle + (has_ticks(i) ? kXTicks + kXLabel : 0) + (i > 0 ? kPanelGap : 0);
  }
  const double height = (canvas.height() - fixed) / static_cast<double>(panels.size());
  const double x = kMargin + left + 8, width = canvas.width() - x - 26;
  if (width < 20 || height < 10) return;
  for (size_t i = 0; i < panels.size(); ++i) {
    top += kPanelTitle;
    PanelPainter(canvas, {x, top, width, height}, panels[i], x_axes.at(panels[i].x_label),
                 y_axes[i])
        .paint(has_ticks(i));
    top += height + kPanelGap + (has_ticks(i) ? kXTicks + kXLabel : 0);
  }
}

void write_plot(const std::string& path, const std::vector<PlotPanel>& panels, const PlotSize& size,
                const std::string& title) {
  const int head = title.empty() ? 0 : kHeadRow;
  const int height = size.height > 0 ? size.height : plot_height(panels.size()) + head;
  const auto canvas = canvas_for(path, size.width, height);
  draw_plot(*canvas, panels, title);
  canvas->write(path);
}

std::vector<double> round_ticks(double low, double high, int wanted) {
  const double rough = (high - low) / std::max(1, wanted);
  // Below the precision of the numbers there is nothing to count with.
  const double smallest = 1e-12 * std::max(std::abs(low), std::abs(high));
  if (!(rough > smallest) || !std::isfinite(rough)) return {low};
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double distance = power * (rough / power <= 1   ? 1
                                   : rough / power <= 2 ? 2
                                   : rough / power <= 5 ? 5
                                                        : 10);
  std::vector<double> out;
  const double slack = distance * 1e-6;  // the ends are ticks also where rounding moved them
  for (double k = std::ceil((low - slack) / distance); k * distance <= high + slack; ++k) {
    out.push_back(k == 0 ? 0.0 : k * distance);  // no -0
  }
  // A scale cannot be read off fewer.
  constexpr size_t kFewest = 3;
  return out.size() < kFewest ? round_ticks(low, high, 2 * std::max(1, wanted)) : out;
}

std::string tick_text(double value, double distance) {
  const double size = std::max(std::abs(value), distance);
  if (size >= 1e7 || (size < 1e-4 && size > 0)) {
    return printed("%.4g", value);
  }
  if (distance >= 1000) {
    const bool whole = std::fmod(distance, 1000.0) == 0;
    return value == 0 ? "0" : printed(whole ? "%.0fk" : "%.1fk", value / 1000);
  }
  const int digits = std::max(0, -static_cast<int>(std::floor(std::log10(distance) + 1e-9)));
  return printed("%.*f", digits, value);
}

}  // namespace seg
