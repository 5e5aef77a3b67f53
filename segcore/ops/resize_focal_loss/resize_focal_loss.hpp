/// The operator segcore::resize_focal_loss: one sigmoid per class of small logits, compared with
/// labels at full size by focal loss or binary cross entropy, and its gradient, without ever
/// holding the logits at full size.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace seg {

/// For each class of a pixel: weight * p^gamma * -log(1 - p), where p is the probability of what is
/// not so: sigmoid(x) of a class that is absent, sigmoid(-x) of the label's.
struct FocalOptions {
  at::Tensor absent_weight;   ///< [C], or undefined: 1
  at::Tensor present_weight;  ///< [C], or undefined: 1
  double gamma = 0;           ///< Lin et al. 2017, arXiv:1708.02002; 0: binary cross entropy
  int64_t ignore_index = 255;
  bool align_corners = false;
};

/// The sum over classes and pixels as of logits that are resized bilinearly to the labels first; a
/// scalar of the logits' type, or float for half precision.
/// \param logits  floating point [N, C, h, w], of any size.
/// \param labels  int64 [N, H, W]; negative ones are ignored too. From C on no class is present.
/// \param pixel_weight  [N, H, W], or undefined: 1.
at::Tensor resize_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                             const at::Tensor& pixel_weight, const FocalOptions& options);
/// The sum over classes of each pixel, [N, H, W], 0 where it is ignored. Not differentiable: for
/// samplers, which choose pixels by it.
at::Tensor resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                   const FocalOptions& options);

/// The definitions by ATen operators, which hold the logits at full size; the kernels of all
/// devices and types that have no other. \return loss, and the gradient of the logits or undefined.
std::tuple<at::Tensor, at::Tensor> composed_resize_focal_loss(
    const at::Tensor& logits, const at::Tensor& labels,
    const std::optional<at::Tensor>& absent_weight, const std::optional<at::Tensor>& present_weight,
    const std::optional<at::Tensor>& pixel_weight, double gamma, int64_t ignore_index,
    bool align_corners, bool with_gradient);
at::Tensor composed_resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                            const std::optional<at::Tensor>& absent_weight,
                                            const std::optional<at::Tensor>& present_weight,
                                            double gamma, int64_t ignore_index, bool align_corners);

}  // namespace seg
