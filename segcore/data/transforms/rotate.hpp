/// Rotation of samples by any angle.
#pragma once
#include <array>
#include <opencv2/core/mat.hpp>
#include <optional>

namespace seg {

struct Rotation {
  double angle = 0;                             ///< degrees, clockwise
  std::optional<std::array<double, 2>> center;  ///< x, y; empty: the middle
  bool auto_bound = false;                      ///< enlarge so that all of the image stays
};

/// \param nearest  for class ids; else bilinear.
/// \param border   value of what comes from outside the image, in all bands.
cv::Mat rotate_image(const cv::Mat& image, const Rotation& rotation, bool nearest, double border);

}  // namespace seg
