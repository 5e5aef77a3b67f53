/// Images kept as arrays.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <string>

namespace seg {

/// An array [H, W] or [H, W, bands] as an image: uint8 and uint16 stay, other numbers become
/// float32. \param path  for messages. \throws DataError for other shapes.
cv::Mat image_of_tensor(const at::Tensor& array, const std::string& path);

}  // namespace seg
