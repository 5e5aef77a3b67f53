/// Positions as waves.
#pragma once
#include <ATen/core/Tensor.h>

#include <numbers>

#include "registry/schema.hpp"

namespace seg {

/// The option `positional_encoding` of DETR-like heads.
struct SinePositionalEncoding {
  int64_t num_feats = 128;
  double temperature = 10000;
  bool normalize = false;
  double scale = 2 * std::numbers::pi;
  double eps = 1e-6;
  double offset = 0;
  static Schema<SinePositionalEncoding> schema();
  /// Sines and cosines of row and column: [1, height * width, 2 * num_feats].
  at::Tensor operator()(int64_t height, int64_t width, const at::TensorOptions& options) const;
};

}  // namespace seg
