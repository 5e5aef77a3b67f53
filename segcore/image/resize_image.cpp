#include "segcore/image/resize_image.hpp"

#include <opencv2/imgproc.hpp>

#include "segcore/image/pillow_resize.hpp"

namespace seg {
namespace {

int cv2_interpolation(const std::string& name) {
  if (name == "nearest") return cv::INTER_NEAREST;
  if (name == "bicubic") return cv::INTER_CUBIC;
  if (name == "area") return cv::INTER_AREA;
  if (name == "lanczos") return cv::INTER_LANCZOS4;
  return cv::INTER_LINEAR;
}

}  // namespace

cv::Mat resize_image(const cv::Mat& image, const cv::Size& size, const std::string& interpolation,
                     const std::string& backend) {
  if (image.size() == size) return image;
  if (backend == "pillow") return pillow_resize(image, {size.width, size.height}, interpolation);
  cv::Mat out;
  cv::resize(image, out, size, 0, 0, cv2_interpolation(interpolation));
  return out;
}

}  // namespace seg
