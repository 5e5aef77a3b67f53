/// Labels as a file holds them.
#pragma once
#include <opencv2/core/mat.hpp>

namespace seg {

struct Sample;

struct RawLabels {
  cv::Mat ids;      ///< H x W, uint8 or int32
  cv::Mat missing;  ///< H x W, uint8, 255 for pixels without data; empty for none
};

/// A transform that reads labels.
class LabelReader {
 public:
  virtual ~LabelReader() = default;
  /// The labels of a sample's file before any of them is mapped. \throws DataError naming the file.
  virtual RawLabels read(const Sample& sample) const = 0;
};

}  // namespace seg
