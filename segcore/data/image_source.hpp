/// Pictures whose pixels are not in memory yet.
#pragma once
#include <cstdint>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

#include "segcore/image/image_io.hpp"

namespace seg {

/// Gives parts of a picture, of which little more is read or decoded than that takes.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual cv::Size size() const = 0;
  virtual int type() const = 0;  ///< as OpenCV counts them
  /// \throws DataError naming the file, where the pixels cannot be had.
  virtual cv::Mat part(const cv::Rect& rect) const = 0;
};

/// A JPEG or PNG file in memory, as BGR; takes the bytes. Null, and the bytes stay, where the bytes
/// are no such file, or are to be turned upright. Damage behind a part may not be seen.
std::shared_ptr<const ImageSource> encoded_source(std::vector<uint8_t>& bytes,
                                                  const std::string& path, ImageFlag flag);

}  // namespace seg
