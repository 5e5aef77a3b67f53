/// Resizing of whole pictures, by the names that configs use.
#pragma once
#include <opencv2/core/mat.hpp>
#include <string>

namespace seg {

/// The picture itself where it has the size.
/// \param interpolation  "nearest", "bilinear", ..., of those that the back end knows.
/// \param backend        whose arithmetic: "cv2" or "pillow" (for uint8, and int32 with nearest).
cv::Mat resize_image(const cv::Mat& image, const cv::Size& size, const std::string& interpolation,
                     const std::string& backend);

}  // namespace seg
