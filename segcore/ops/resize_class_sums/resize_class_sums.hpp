/// The operator segcore::resize_class_sums: the sums over an image that losses of regions are made
/// of (Dice, Jaccard, Tversky), of small logits and labels at full size, without ever holding the
/// logits at full size.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "segcore/ops/resize_class_sums/logit_activation.hpp"

namespace seg {

struct ClassSumsOptions {
  LogitActivation activation = LogitActivation::kSoftmax;
  bool squared = false;                 ///< `mass` sums squares
  std::optional<int64_t> ignore_index;  ///< pixels with this label are in no sum
  bool align_corners = false;
};

/// Sums over the pixels of each image, [N, C] each, floating point and int64.
struct ClassSums {
  at::Tensor hit;      ///< of the probabilities of a class where it is the label
  at::Tensor mass;     ///< of its probabilities, or their squares, everywhere
  at::Tensor present;  ///< pixels whose label it is
};

/// As of logits that are resized bilinearly to the labels first. `hit` and `mass` are
/// differentiable. They are of the logits' type, or float for half precision.
/// \param logits  floating point [N, C, h, w], of any size.
/// \param labels  int64 [N, H, W]. A label outside of [0, C) is no class, but its pixel is in
///     `mass`.
ClassSums resize_class_sums(const at::Tensor& logits, const at::Tensor& labels,
                            const ClassSumsOptions& options);

/// The definitions by ATen operators, which hold the logits at full size; the kernels of all
/// devices and types that have no other. \param activation  a LogitActivation.
std::tuple<at::Tensor, at::Tensor, at::Tensor> composed_resize_class_sums(
    const at::Tensor& logits, const at::Tensor& labels, int64_t activation, bool squared,
    std::optional<int64_t> ignore_index, bool align_corners);
/// The gradient of the logits. \param grad_hit, grad_mass  [N, C]
at::Tensor composed_resize_class_sums_backward(const at::Tensor& grad_hit,
                                               const at::Tensor& grad_mass,
                                               const at::Tensor& logits, const at::Tensor& labels,
                                               int64_t activation, bool squared,
                                               std::optional<int64_t> ignore_index,
                                               bool align_corners);

}  // namespace seg
