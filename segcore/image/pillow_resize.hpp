/// Resizing with Pillow's arithmetic, which filters over the whole area that a pixel covers.
#pragma once
#include <array>
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <string>

namespace seg {

/// \param image          H x W x bands of uint8; labels of int32 with "nearest" too.
/// \param size           width, height.
/// \param interpolation  nearest, bilinear, bicubic, box, lanczos, hamming.
cv::Mat pillow_resize(const cv::Mat& image, const std::array<int64_t, 2>& size,
                      const std::string& interpolation);

}  // namespace seg
