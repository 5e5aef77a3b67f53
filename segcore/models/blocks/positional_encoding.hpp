/// Positional encodings.
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
  /// Sines and cosines of row and column.
  /// \param map  [N, C, h, w]; its size, type and device are those of the encoding.
  /// \param padding  bool [N, h, w], true where the map shows padding; undefined: nowhere. Rows and
  ///                 columns are counted, and normalised, without padding.
  /// \return [N, h * w, 2 * num_feats]; without padding [1, ...].
  at::Tensor operator()(const at::Tensor& map, const at::Tensor& padding = {}) const;
};

}  // namespace seg
