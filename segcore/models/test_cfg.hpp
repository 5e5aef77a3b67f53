/// How a model predicts images.
#pragma once
#include <optional>
#include <string>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// The model's `test_cfg`.
struct TestCfg {
  std::string mode = "whole";              ///< "whole", "slide" or "slide_flip"
  std::optional<Size2> crop_size, stride;  ///< of the sliding window; given where it slides
  int64_t batch = 1;                       ///< windows of each image that are predicted at once
  int64_t subdivision_steps = 2;           ///< this and the rest: for heads that sample points
  int64_t subdivision_num_points = 8196;
  double scale_factor = 2;
  bool slides() const { return mode != "whole"; }
  /// Each window is predicted as it is and mirrored.
  bool flips() const { return mode == "slide_flip"; }
  static Schema<TestCfg> schema();
};

}  // namespace seg
