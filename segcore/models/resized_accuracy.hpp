/// The accuracy of logits at the head's size, where no loss has come by it.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// `pixel_accuracy` of logits that are resized to the labels, a band at a time.
/// \param logits  floating point [N, C, h, w], at least two classes.
/// \param labels  int64 [N, H, W]
at::Tensor resized_accuracy(const at::Tensor& logits, const at::Tensor& labels,
                            int64_t ignore_index, bool align_corners);

}  // namespace seg
