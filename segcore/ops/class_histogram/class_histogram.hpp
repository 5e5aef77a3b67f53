/// Pixels by class: what all overlap measures are made from.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seg {

/// Adds the pixels of one image, in one pass on the CPU. Pixels with the ignored label do not
/// count. \param counts  int64 [3, classes + 1]: prediction equals label, predictions, labels; the
/// last
///                column is for what is in no class.
/// \param prediction  integers [H, W]
/// \param labels      integers [H, W]
/// \return the first label that is neither a class nor ignored, or -1.
int64_t count_classes_(at::Tensor& counts, const at::Tensor& prediction, const at::Tensor& labels,
                       int64_t ignore_index);

/// The same counts of one image on the device of the prediction.
at::Tensor class_histogram(const at::Tensor& prediction, const at::Tensor& labels, int64_t classes,
                           int64_t ignore_index);
/// The same by LibTorch's operators, which wait for the device.
at::Tensor composed_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                    int64_t classes, int64_t ignore_index);

}  // namespace seg
