/// The picture of one image of a validation or a test: what it shows, what is true, what was
/// predicted, and where that is wrong.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

#include "segcore/data/palette.hpp"

namespace seg {

struct PredictionPictureParts {
  std::string name;                  ///< of the image, for the head
  cv::Mat image;                     ///< BGR
  at::Tensor truth;                  ///< class ids [H, W]; undefined: unknown
  at::Tensor prediction;             ///< class ids [H, W]
  const Palette* palette = nullptr;  ///< of all classes
  const std::vector<std::string>* classes = nullptr;
  int64_t ignore_index = 255;
  double opacity = 0.8;  ///< of the colours over the image
};

/// A head with the name and the image's mIoU; panels of image, truth, prediction and wrong pixels,
/// two a row; below, the classes present with their shares of the pixels. Images narrower than 240
/// pixels are enlarged by a whole number, those with a side above 2048 are reduced to it.
/// \return BGR
cv::Mat prediction_picture(const PredictionPictureParts& parts);

/// Where `prediction_picture` puts the image of this size, enlarged or reduced.
cv::Rect image_panel(cv::Size image);

}  // namespace seg
