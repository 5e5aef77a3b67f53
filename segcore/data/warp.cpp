#include "segcore/data/warp.hpp"

#include <opencv2/core.hpp>

namespace seg {

cv::Mat flipped(const cv::Mat& pixels, Flips flips) {
  if (!flips.x && !flips.y) return pixels;
  if (pixels.type() == CV_8UC1) {  // faster than OpenCV's
    const cv::Size same = pixels.size();
    return resize_part_nearest({pixels, same, {}}, {same, {{}, same}, flips.x, flips.y});
  }
  cv::Mat out;
  cv::flip(pixels, out, !flips.y ? 1 : !flips.x ? 0 : -1);
  return out;
}

cv::Rect within(const cv::Size& picture, const cv::Rect& rect) {
  const cv::Rect inside = rect & cv::Rect({}, picture);
  return inside.empty() ? cv::Rect(0, 0, 1, 1) : inside;
}

}  // namespace seg
