/// Predicts images that belong to no data set: what tools/predict does.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "runners/run_config.hpp"

namespace seg {

struct PredictOptions {
  std::string input;  ///< an image, or a folder that is searched with its subfolders
  std::string out;    ///< folder; an image of a subfolder goes into one of the same name
  double opacity = 0.5;
  std::string device;  ///< as env_cfg.device; empty: what the config says
};

/// What became of each image.
struct PredictReport {
  std::vector<std::string> done;                            ///< paths of the images
  std::vector<std::pair<std::string, std::string>> failed;  ///< path and reason
};

/// For each image writes <out>/<stem>.png, the classes in colour over the image, and
/// <out>/<stem>_ids.png, the class ids. The images go through the pipeline of the test set without
/// its labels; one that cannot be read does not keep the others from being done.
/// \throws ConfigError, CheckpointError, WeightsMismatch; DataError where there is no image at all.
PredictReport predict_images(const RunConfig& config, const std::string& checkpoint,
                             const PredictOptions& options);

/// How a window slides over an image, height and width.
struct SlideWindow {
  int64_t crop_h = 0, crop_w = 0, stride_h = 0, stride_w = 0;
};

/// Class ids of one large image by sliding window, row of windows by row of windows: the same as
/// the model's own prediction, but it holds the logits of no more rows than a window has.
/// \param image  float [1, C, H, W], normalised.
/// \return int64 [H, W]
at::Tensor predict_by_rows(Segmentor& model, const at::Tensor& image, const SlideWindow& window);

}  // namespace seg
