/// Estimated depth as pictures and as files.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <string>

namespace seg {

/// Depth in colours, from red for near to dark blue for `farthest`; black where it is 0, unknown.
/// \param depth  float [H, W]
/// \return BGR
cv::Mat depth_colours(const at::Tensor& depth, double farthest);
/// The image, its true depth and the estimate beside each other, in colours of one scale.
/// \param image  BGR
/// \param truth  float [H, W], 0 where it is unknown; undefined: not shown.
/// \param depth  float [H, W], of any size
cv::Mat depth_picture(const cv::Mat& image, const at::Tensor& truth, const at::Tensor& depth);
/// Writes depth as a grey PNG of 16 bits: times `scale`, without fractions, at most 65535.
void write_depth(const std::string& path, const at::Tensor& depth, double scale);

}  // namespace seg
