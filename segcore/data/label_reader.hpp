/// Labels as a file holds them.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <span>
#include <string>

namespace seg {

struct RawLabels {
  cv::Mat ids;      ///< H x W, uint8 or int32
  cv::Mat missing;  ///< H x W, uint8, 255 for pixels without data; empty for none
};

/// A transform that reads labels.
class LabelReader {
 public:
  virtual ~LabelReader() = default;
  /// The labels of a file before any of them is mapped. \throws DataError naming the file.
  virtual RawLabels decode(std::span<const uint8_t> bytes, const std::string& path) const = 0;
};

}  // namespace seg
