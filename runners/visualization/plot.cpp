#include "runners/visualization/plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <opencv2/imgproc.hpp>

namespace seg {
namespace {

// Colours that stay apart also for colour-blind readers (Wong 2011), BGR.
const std::array<cv::Scalar, 8> kPlotColors = {cv::Scalar(178, 114, 0),  cv::Scalar(0, 94, 213),
                                               cv::Scalar(115, 158, 0),  cv::Scalar(167, 121, 204),
                                               cv::Scalar(0, 159, 230),  cv::Scalar(233, 180, 86),
                                               cv::Scalar(66, 228, 240), cv::Scalar(90, 90, 90)};
const cv::Scalar kPlotText(50, 50, 50), kPlotGrid(225, 225, 225), kPlotAxis(120, 120, 120);
constexpr int kPlotFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kTickSize = 0.45, kTitleSize = 0.55;

/// OpenCV's font has ASCII only.
std::string plot_ascii(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  }
  return text;
}

cv::Size plot_text_size(const std::string& text, double scale) {
  int baseline = 0;
  return cv::getTextSize(text, kPlotFont, scale, 1, &baseline);
}

void plot_text(cv::Mat& image, const std::string& text, cv::Point at, double scale) {
  cv::putText(image, text, at, kPlotFont, scale, kPlotText, 1, cv::LINE_AA);
}

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

class PanelPainter {
 public:
  PanelPainter(cv::Mat& image, cv::Rect area, const PlotPanel& panel)
      : image_(image), panel_(panel) {
    for (const PlotCurve& curve : panel.curves) {
      for (const auto& [x, y] : curve.points) {
        if (!std::isfinite(x) || !std::isfinite(y)) continue;
        x_.add(x);
        y_.add(y);
      }
    }
    x_.widen(0.0);
    y_.widen(0.06);
    y_ticks_ = round_ticks(y_.low, y_.high, 5);
    int widest = 0;
    for (const double tick : y_ticks_) {
      widest = std::max(widest, plot_text_size(tick_text(tick, y_distance()), kTickSize).width);
    }
    box_ = cv::Rect(area.x + widest + 16, area.y + 30, area.width - widest - 16 - 22,
                    area.height - 30 - 44);
  }

  void paint() {
    if (box_.width < 20 || box_.height < 20) return;
    paint_axes();
    cv::Mat inside = image_(box_);  // lines are cut at the frame
    for (size_t i = 0; i < panel_.curves.size(); ++i) paint_curve(inside, i);
    cv::rectangle(image_, box_, kPlotAxis, 1);
    if (panel_.curves.size() > 1) paint_legend();
  }

 private:
  double y_distance() const { return y_ticks_.size() > 1 ? y_ticks_[1] - y_ticks_[0] : 1; }
  cv::Point2d place(double x, double y) const {  // relative to the box
    return {(x - x_.low) / (x_.high - x_.low) * (box_.width - 1),
            (y_.high - y) / (y_.high - y_.low) * (box_.height - 1)};
  }

  void paint_axes() {
    const auto x_ticks = round_ticks(x_.low, x_.high, std::max(2, box_.width / 110));
    const double x_distance = x_ticks.size() > 1 ? x_ticks[1] - x_ticks[0] : 1;
    for (const double tick : x_ticks) {
      const int x = box_.x + cvRound(place(tick, y_.low).x);
      cv::line(image_, {x, box_.y}, {x, box_.br().y}, kPlotGrid, 1);
      const std::string label = tick_text(tick, x_distance);
      const cv::Size size = plot_text_size(label, kTickSize);
      plot_text(image_, label, {x - size.width / 2, box_.br().y + 8 + size.height}, kTickSize);
    }
    for (const double tick : y_ticks_) {
      const int y = box_.y + cvRound(place(x_.low, tick).y);
      cv::line(image_, {box_.x, y}, {box_.br().x, y}, kPlotGrid, 1);
      const std::string label = tick_text(tick, y_distance());
      const cv::Size size = plot_text_size(label, kTickSize);
      plot_text(image_, label, {box_.x - 8 - size.width, y + size.height / 2}, kTickSize);
    }
    const std::string title = plot_ascii(panel_.title), label = plot_ascii(panel_.x_label);
    plot_text(image_, title, {box_.x, box_.y - 10}, kTitleSize);
    const cv::Size size = plot_text_size(label, kTickSize);
    plot_text(image_, label,
              {box_.x + box_.width / 2 - size.width / 2, box_.br().y + 24 + size.height},
              kTickSize);
  }

  void paint_curve(cv::Mat& inside, size_t index) {
    constexpr int kShift = 4;  // sixteenths of a pixel
    const cv::Scalar color = kPlotColors[index % kPlotColors.size()];
    const auto& points = panel_.curves[index].points;
    const bool marks = points.size() <= 40;
    cv::Point before;
    bool connected = false;
    for (const auto& [x, y] : points) {
      if (!std::isfinite(x) || !std::isfinite(y)) {
        connected = false;
        continue;
      }
      const cv::Point2d at = place(x, y);
      const cv::Point fine(cvRound(at.x * (1 << kShift)), cvRound(at.y * (1 << kShift)));
      if (connected) cv::line(inside, before, fine, color, 2, cv::LINE_AA, kShift);
      if (marks) cv::circle(inside, fine, 3 << kShift, color, cv::FILLED, cv::LINE_AA, kShift);
      before = fine;
      connected = true;
    }
  }

  /// How much of a curve lies inside `area` of the box, in samples along its lines.
  size_t hidden_part(const PlotCurve& curve, cv::Rect area) const {
    constexpr int kSamples = 16;  // on a line; enough for the few and long ones
    size_t hidden = 0;
    for (size_t i = 0; i < curve.points.size(); ++i) {
      const auto& [x, y] = curve.points[i];
      const auto& [x0, y0] = curve.points[i > 0 ? i - 1 : 0];
      if (!std::isfinite(x + y + x0 + y0)) continue;
      const int samples = curve.points.size() > 200 ? 1 : kSamples;
      for (int k = 1; k <= samples; ++k) {
        const double t = static_cast<double>(k) / samples;
        if (area.contains(cv::Point(place(x0 + t * (x - x0), y0 + t * (y - y0))))) ++hidden;
      }
    }
    return hidden;
  }

  void paint_legend() {
    int width = 0;
    constexpr int kRow = 20, kLine = 26, kPad = 8;
    for (const PlotCurve& curve : panel_.curves) {
      width = std::max(width, plot_text_size(plot_ascii(curve.name), kTickSize).width);
    }
    const cv::Size size(width + kLine + 3 * kPad,
                        kRow * static_cast<int>(panel_.curves.size()) + kPad);
    if (size.width > box_.width - 8 || size.height > box_.height - 8) return;
    // The corner that hides the fewest points.
    const int right = box_.width - size.width - 6, bottom = box_.height - size.height - 6;
    cv::Rect best;
    size_t fewest = std::numeric_limits<size_t>::max();
    for (const cv::Point corner :
         {cv::Point(right, 6), cv::Point(right, bottom), cv::Point(6, 6), cv::Point(6, bottom)}) {
      const cv::Rect area(corner, size);
      size_t hidden = 0;
      for (const PlotCurve& curve : panel_.curves) hidden += hidden_part(curve, area);
      if (hidden < fewest) fewest = hidden, best = area;
    }
    best += box_.tl();
    cv::Mat behind = image_(best);
    cv::addWeighted(behind, 0.15, cv::Mat(behind.size(), behind.type(), cv::Scalar::all(255)), 0.85,
                    0, behind);
    cv::rectangle(image_, best, kPlotGrid, 1);
    for (size_t i = 0; i < panel_.curves.size(); ++i) {
      const int y = best.y + kPad / 2 + kRow / 2 + kRow * static_cast<int>(i);
      cv::line(image_, {best.x + kPad, y}, {best.x + kPad + kLine, y},
               kPlotColors[i % kPlotColors.size()], 2, cv::LINE_AA);
      plot_text(image_, plot_ascii(panel_.curves[i].name), {best.x + 2 * kPad + kLine, y + 5},
                kTickSize);
    }
  }

  cv::Mat& image_;
  const PlotPanel& panel_;
  PlotRange x_, y_;
  std::vector<double> y_ticks_;
  cv::Rect box_;
};

}  // namespace

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
  char buffer[48];
  const double size = std::max(std::abs(value), distance);
  if (size >= 1e7 || (size < 1e-4 && size > 0)) {
    std::snprintf(buffer, sizeof(buffer), "%.4g", value);
  } else if (distance >= 1000) {
    const bool whole = std::fmod(distance, 1000.0) == 0;
    if (value == 0) return "0";
    std::snprintf(buffer, sizeof(buffer), whole ? "%.0fk" : "%.1fk", value / 1000);
  } else {
    const int digits = std::max(0, -static_cast<int>(std::floor(std::log10(distance) + 1e-9)));
    std::snprintf(buffer, sizeof(buffer), "%.*f", digits, value);
  }
  return buffer;
}

cv::Mat draw_plot(const std::vector<PlotPanel>& panels, int width, int height,
                  const std::string& title) {
  cv::Mat image(height, width, CV_8UC3, cv::Scalar::all(255));
  int top = 0;
  if (!title.empty()) {
    const std::string shown = plot_ascii(title);
    const cv::Size size = plot_text_size(shown, 0.7);
    plot_text(image, shown, {(width - size.width) / 2, 26}, 0.7);
    top = 34;
  }
  if (panels.empty()) return image;
  const int count = static_cast<int>(panels.size());
  const int columns = count >= 4 ? 2 : 1, rows = (count + columns - 1) / columns;
  for (int i = 0; i < count; ++i) {
    const int row = i / columns, column = i % columns;
    const int y0 = top + (height - top) * row / rows, y1 = top + (height - top) * (row + 1) / rows;
    const int x0 = width * column / columns, x1 = width * (column + 1) / columns;
    PanelPainter(image, cv::Rect(x0, y0, x1 - x0, y1 - y0), panels[static_cast<size_t>(i)]).paint();
  }
  return image;
}

}  // namespace seg
