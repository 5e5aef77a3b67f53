/// The operator segcore::resize_cross_entropy: softmax cross entropy of small logits with labels at
/// full size, its accuracy and its gradient, without ever holding the logits at full size.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace seg {

/// Sums over the pixels that are not ignored. Differentiable is `loss` alone.
struct ResizedCrossEntropy {
  at::Tensor loss;    ///< of cross entropies, times the weights; a scalar
  at::Tensor weight;  ///< of class weights (1 each without them); a scalar
  at::Tensor counts;  ///< int64 [2]: pixels whose first largest logit is the label's, and all
};

/// As of logits that are resized bilinearly to the labels first. Results and weights are of the
/// logits' type, or float for half precision, which is widened as it is read.
/// \param logits        floating point [N, C, h, w], of any size; so is the gradient.
/// \param labels        int64 [N, H, W]; what is not in [0, C) is ignored.
/// \param class_weight  [C], or undefined: 1.
/// \param pixel_weight  [N, H, W], or undefined: 1. Not in `weight`.
ResizedCrossEntropy resize_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                         const at::Tensor& class_weight,
                                         const at::Tensor& pixel_weight, int64_t ignore_index,
                                         bool align_corners);

/// The cross entropy of each pixel, [N, H, W], 0 where it is ignored; double of double, else float.
/// Not differentiable: for samplers, which choose pixels by it (the probability of a pixel's label
/// is e to minus it).
at::Tensor resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                      int64_t ignore_index, bool align_corners);
at::Tensor composed_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                               int64_t ignore_index, bool align_corners);

/// The definition by ATen operators, which holds the logits at full size; the kernel of all devices
/// and types that have no other. \param with_gradient  of the loss by the logits, else undefined.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> composed_resize_cross_entropy(
    const at::Tensor& logits, const at::Tensor& labels,
    const std::optional<at::Tensor>& class_weight, const std::optional<at::Tensor>& pixel_weight,
    int64_t ignore_index, bool align_corners, bool with_gradient);

}  // namespace seg
