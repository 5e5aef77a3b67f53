#include "segcore/ops/bilinear_weights.hpp"

#include <ATen/ATen.h>

namespace seg {

at::Tensor bilinear_weights(int64_t in, int64_t out, std::optional<double> factor,
                            bool align_corners, const at::TensorOptions& options) {
  const auto wide = options.dtype(at::kDouble);
  const auto index = at::arange(out, wide);
  at::Tensor position;
  if (align_corners) {
    position = index * (out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0.0);
  } else {
    const double scale = factor ? 1 / *factor : static_cast<double>(in) / static_cast<double>(out);
    position = ((index + 0.5) * scale - 0.5).clamp(0.0, static_cast<double>(in - 1));
  }
  const auto weights = (1 - (position.unsqueeze(1) - at::arange(in, wide)).abs()).clamp_min(0);
  return weights.to(options);
}

}  // namespace seg
