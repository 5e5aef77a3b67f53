/// Cropping, for the transforms that choose a rectangle.
#pragma once
#include <opencv2/core/mat.hpp>

#include "segcore/data/sample.hpp"

namespace seg {

/// Plans to cut image and labels to a rectangle, as far as it lies within them.
void crop_sample(Sample& sample, const cv::Rect& rect);

/// Whether the labels have two classes at least, and none of them more than `max_ratio` of the
/// pixels that are not ignored.
bool classes_are_mixed(const cv::Mat& labels, double max_ratio, int64_t ignore_index);

}  // namespace seg
