#include "segcore/data/transforms/rotate.hpp"

#include <cmath>
#include <opencv2/imgproc.hpp>

namespace seg {

cv::Mat rotate_image(const cv::Mat& image, const Rotation& rotation, bool nearest, double border) {
  double width = image.cols, height = image.rows;
  const cv::Point2f center = rotation.center
                                 ? cv::Point2f(static_cast<float>((*rotation.center)[0]),
                                               static_cast<float>((*rotation.center)[1]))
                                 : cv::Point2f(static_cast<float>((width - 1) * 0.5),
                                               static_cast<float>((height - 1) * 0.5));
  cv::Mat matrix = cv::getRotationMatrix2D(center, -rotation.angle, 1.0);
  if (rotation.auto_bound) {
    const double cos = std::abs(matrix.at<double>(0, 0)), sin = std::abs(matrix.at<double>(0, 1));
    const double new_width = height * sin + width * cos, new_height = height * cos + width * sin;
    matrix.at<double>(0, 2) += (new_width - width) * 0.5;
    matrix.at<double>(1, 2) += (new_height - height) * 0.5;
    width = std::nearbyint(new_width);
    height = std::nearbyint(new_height);
  }
  const cv::Size size(static_cast<int>(width), static_cast<int>(height));
  // OpenCV warps labels of int32 only as float, which holds class ids exactly.
  const bool as_float = image.depth() == CV_32S;
  cv::Mat from = image, out;
  if (as_float) image.convertTo(from, CV_32F);
  cv::warpAffine(from, out, matrix, size, nearest ? cv::INTER_NEAREST : cv::INTER_LINEAR,
                 cv::BORDER_CONSTANT, cv::Scalar::all(border));
  if (as_float) out.convertTo(out, CV_32S);
  return out;
}

}  // namespace seg
