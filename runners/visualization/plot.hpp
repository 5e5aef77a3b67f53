/// Draws curves: panels one below the other over one x axis, with a legend outside of them.
#pragma once
#include <opencv2/core/mat.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runners/visualization/canvas.hpp"

namespace seg {

struct PlotCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x rises; points that are not finite are gaps
  /// Weight of the past in the line; the points themselves are drawn faint behind it. 0: no
  /// smoothing.
  double smoothing = 0;
  std::vector<double> resumes;                    ///< x at which a resumed launch continued
  std::optional<std::pair<double, double>> best;  ///< marked, and written beside the title
};

/// One pair of axes.
struct PlotPanel {
  std::string title, x_label;     ///< panels with one label have one range
  std::vector<PlotCurve> curves;  ///< the same place in every panel has the same colour
  bool log_scale = false;         ///< of y; points that are not above 0 are gaps
};

struct PlotSize {
  int width = 1000;
  int height = 0;  ///< 0: as high as the panels need
};

/// The height that draw_plot chooses for so many panels.
int plot_height(size_t panels);
/// Draws on a canvas of any size.
void draw_plot(Canvas& canvas, const std::vector<PlotPanel>& panels, const std::string& title = "");
/// Draws and writes a picture, or an SVG for a path that ends in .svg.
void write_plot(const std::string& path, const std::vector<PlotPanel>& panels,
                const PlotSize& size = {}, const std::string& title = "");

/// The mean of each value and those before it, whose weights fall by the factor `weight` a point;
/// not finite values are left out.
std::vector<std::pair<double, double>> smoothed(
    const std::vector<std::pair<double, double>>& points, double weight);

/// Round numbers inside [low, high], `wanted` of them or a few more: their distance is 1, 2 or 5
/// times a power of ten.
std::vector<double> round_ticks(double low, double high, int wanted);
/// The same for a logarithmic axis of positive numbers: powers of ten, and 2 and 5 times them where
/// there are few. Fewer than two: round_ticks.
std::vector<double> log_ticks(double low, double high);

/// "0.25", "160k": with the digits that ticks of this distance need.
std::string tick_text(double value, double distance);

}  // namespace seg
