/// Distortion of brightness, contrast, saturation and hue, drawn and applied apart.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <optional>

namespace seg {

/// The draws of PhotoMetricDistortion; empty for a step that the coin switched off.
struct Distortion {
  std::optional<double> brightness;  ///< added
  std::optional<double> contrast;    ///< factor
  bool contrast_first = false;       ///< before saturation and hue, else after them
  std::optional<double> saturation;  ///< factor
  std::optional<int64_t> hue;        ///< added, in OpenCV's units of two degrees
};

/// Changes an 8-bit BGR image in place.
void distort_colours(cv::Mat& image, const Distortion& drawn);

}  // namespace seg
