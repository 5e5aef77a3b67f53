/// The colours of classes with their names, as a picture.
#pragma once
#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

#include "segcore/data/palette.hpp"

namespace seg {

/// Colour, id and name of each class, in columns of 40.
/// \param classes  names; classes without one are "class 3"
/// \return BGR
cv::Mat class_legend(const Palette& palette, const std::vector<std::string>& classes,
                     int64_t count);

}  // namespace seg
