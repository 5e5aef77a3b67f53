#include "segcore/evaluation/depth_picture.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "registry/error.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// float [H, W] as an image of its own memory.
cv::Mat depth_mat(const at::Tensor& depth) {
  SEG_CHECK(depth.dim() == 2, "expected [H, W], got ", depth.sizes());
  const at::Tensor flat = depth.to(at::kCPU, at::kFloat).contiguous();
  return cv::Mat(static_cast<int>(flat.size(0)), static_cast<int>(flat.size(1)), CV_32F,
                 flat.data_ptr())
      .clone();
}

}  // namespace

cv::Mat depth_colours(const at::Tensor& depth, double farthest) {
  const cv::Mat values = depth_mat(depth);
  cv::Mat bytes, out;
  const double scale = farthest > 0 ? -255.0 / farthest : 0;
  values.convertTo(bytes, CV_8U, scale, 255);
  cv::applyColorMap(bytes, out, cv::COLORMAP_TURBO);
  out.setTo(cv::Scalar::all(0), values <= 0);
  return out;
}

cv::Mat depth_picture(const cv::Mat& image, const at::Tensor& truth, const at::Tensor& depth) {
  double farthest = depth.max().item<double>();
  if (truth.defined()) farthest = std::max(farthest, truth.max().item<double>());
  std::vector<cv::Mat> panels{image};
  if (truth.defined()) panels.push_back(depth_colours(truth, farthest));
  panels.push_back(depth_colours(depth, farthest));
  return side_by_side(panels);
}

void write_depth(const std::string& path, const at::Tensor& depth, double scale) {
  constexpr double kMost = 65535;
  const cv::Mat values = depth_mat((depth * scale).clamp(0, kMost).floor());
  cv::Mat out;
  values.convertTo(out, CV_16U);
  write_png(path, out);
}

}  // namespace seg
