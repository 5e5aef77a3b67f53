/// Distortion of brightness, contrast, saturation and hue, in one pass over the pixels.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <optional>

namespace seg {

/// What is done to an image, in this order; empty for a step that is left out.
struct Distortion {
  std::optional<double> brightness;  ///< added
  std::optional<double> contrast;    ///< factor
  bool contrast_first = false;       ///< before saturation and hue, else after them
  std::optional<double> saturation;  ///< factor
  std::optional<int64_t> hue;        ///< added, in OpenCV's units of two degrees
};

/// Changes an 8-bit BGR image in place. After each step values are cut to 0..255 and truncated.
/// Saturation and hue go through OpenCV's HSV of uint8, there and back for each of them, bit for
/// bit as cv::cvtColor does with AVX2: HSV2BGR truncates. Only in the columns that are left over at
/// the right edge after the last whole 32 it rounds, and five of a million values may differ by
/// one.
void distort_colours(cv::Mat& image, const Distortion& drawn);

}  // namespace seg
