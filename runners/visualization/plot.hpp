/// Draws curves: axes with round ticks, a grid, a legend.
#pragma once
#include <opencv2/core/mat.hpp>
#include <string>
#include <utility>
#include <vector>

namespace seg {

struct PlotCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x rises; points that are not finite are gaps
};

/// One pair of axes.
struct PlotPanel {
  std::string title, x_label;
  std::vector<PlotCurve> curves;  ///< the same place in every panel has the same colour
};

/// \return height x width x 3, BGR, uint8; panels one below the other, in two columns from four on.
cv::Mat draw_plot(const std::vector<PlotPanel>& panels, int width = 1000, int height = 600,
                  const std::string& title = "");

/// Round numbers inside [low, high], `wanted` of them or a few more: their distance is 1, 2 or 5
/// times a power of ten.
std::vector<double> round_ticks(double low, double high, int wanted);

/// "0.25", "160k": with the digits that ticks of this distance need.
std::string tick_text(double value, double distance);

}  // namespace seg
