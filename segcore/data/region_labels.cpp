#include "segcore/data/region_labels.hpp"

#include <algorithm>
#include <opencv2/core.hpp>

namespace seg {

std::optional<int64_t> background_of(const std::vector<std::string>& classes) {
  for (const char* name : {"background", "_background_", "__background__"}) {
    const auto found = std::find(classes.begin(), classes.end(), name);
    if (found != classes.end()) return found - classes.begin();
  }
  return std::nullopt;
}

RegionCanvas::RegionCanvas(int64_t height, int64_t width, std::optional<int64_t> background) {
  const cv::Size size(static_cast<int>(width), static_cast<int>(height));
  labels_.ids = cv::Mat(size, CV_32S, cv::Scalar(static_cast<double>(background.value_or(0))));
  labels_.missing = cv::Mat(size, CV_8U, cv::Scalar(background ? 0 : 255));
}

void RegionCanvas::paint(const cv::Mat& mask, std::optional<int64_t> id) {
  labels_.missing.setTo(cv::Scalar(id ? 0 : 255), mask);
  if (id) labels_.ids.setTo(cv::Scalar(static_cast<double>(*id)), mask);
}

RawLabels RegionCanvas::take() {
  if (cv::countNonZero(labels_.missing) == 0) labels_.missing.release();
  return std::move(labels_);
}

}  // namespace seg
