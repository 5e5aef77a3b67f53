/// Rotation of samples by any angle.
#pragma once
#include <array>
#include <optional>
#include <string_view>

#include "segcore/data/sample.hpp"

namespace seg {

struct Rotation {
  double angle = 0;                             ///< degrees, clockwise
  std::optional<std::array<double, 2>> center;  ///< x, y; empty: the middle
  bool auto_bound = false;                      ///< enlarge so that all of the image stays
};

/// Plans to rotate images, depth and labels: what cv::warpAffine gives, bit for bit, bilinear for
/// images and the nearest pixel for the others.
/// \param border, label_border  of images, in all bands, and of labels: what comes from outside.
///                              Depth from there is 0, which is none.
/// \throws DataError as require_image.
void rotate_sample(Sample& sample, std::string_view transform, const Rotation& rotation,
                   double border, double label_border);

}  // namespace seg
