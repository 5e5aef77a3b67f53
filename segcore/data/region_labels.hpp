/// What LabelMe's and COCO's annotations share: names of classes, pixels of no region.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/data/label_reader.hpp"
#include "segcore/data/regions.hpp"

namespace seg {

/// The id of a class of one of the names "background", "_background_", "__background__".
std::optional<int64_t> background_of(const std::vector<std::string>& classes);

/// Labels that regions are painted onto.
class RegionCanvas {
 public:
  /// \param background  of pixels that no region covers; nothing: they are missing.
  RegionCanvas(int64_t height, int64_t width, std::optional<int64_t> background);
  /// \param id    nothing: the pixels become missing.
  /// \param mask  uint8, not 0 inside
  void paint(const cv::Mat& mask, std::optional<int64_t> id);
  cv::Mat empty_mask() const { return cv::Mat(labels_.ids.size(), CV_8U, cv::Scalar(0)); }
  /// The mask is empty where no pixel is missing.
  RawLabels take();

 private:
  RawLabels labels_;
};

}  // namespace seg
