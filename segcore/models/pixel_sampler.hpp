/// The interface of samplers, which choose the pixels that a decode head learns from.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "registry/registry.hpp"

namespace seg {

/// Weighs the pixels of a batch, for a head's losses.
class PixelSampler {
 public:
  virtual ~PixelSampler() = default;
  /// Whether `sample` calls `pixel_losses`; then all losses of the head must have `per_pixel`.
  virtual bool needs_pixel_losses() const = 0;
  /// \param logits  float [N, C, h, w], which are resized bilinearly; no gradient is taken.
  /// \param labels  int64 [N, H, W].
  /// \param pixel_losses  computes the sum of the head's losses (`Loss::per_pixel`), float [N, H,
  /// W];
  ///                      called only by samplers that rank pixels by loss.
  /// \return weights, float [N, H, W]; 0 for ignored pixels.
  virtual at::Tensor sample(const at::Tensor& logits, const at::Tensor& labels,
                            int64_t ignore_index, const std::function<at::Tensor()>& pixel_losses,
                            bool align_corners = false) const = 0;
};

template <>
struct Category<PixelSampler> {
  static constexpr std::string_view name = "pixel sampler";
  using Signature = std::unique_ptr<PixelSampler>();
};

}  // namespace seg
