/// The operator segcore::class_histogram: pixels by class, which all overlap measures are computed
/// from. Counts have no gradient, so there is no autograd kernel.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seg {

/// Counts the pixels of one image, without those that have the ignored label.
/// \param prediction  integers [H, W]
/// \param labels      integers [H, W], on the device of the prediction or on the CPU
/// \return int64 [3, classes + 1] on the device of the prediction: pixels where prediction and
///         label agree, predicted pixels, labelled pixels; the last column counts values that are
///         no class.
at::Tensor class_histogram(const at::Tensor& prediction, const at::Tensor& labels, int64_t classes,
                           int64_t ignore_index);
/// The definition by ATen operators, which synchronise with the device; the kernel of all devices
/// that have no other.
at::Tensor composed_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                    int64_t classes, int64_t ignore_index);

}  // namespace seg
