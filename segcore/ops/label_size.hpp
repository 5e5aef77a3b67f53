/// How the definitions of operators resize logits to the labels, and gradients back.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// Logits [N, C, h, w] at the size of the labels [N, H, W]; half precision becomes float.
at::Tensor at_label_size(const at::Tensor& logits, const at::Tensor& labels, bool align_corners);
/// The gradient of the logits, of their type, from that of `at_label_size`.
at::Tensor from_label_size(const at::Tensor& gradient, const at::Tensor& logits,
                           bool align_corners);
/// The same in matrix products, which have the same bits in every run on a GPU too.
at::Tensor from_label_size_by_products(const at::Tensor& gradient, const at::Tensor& logits,
                                       bool align_corners);
/// Whether labels are classes: bool [N, H, W].
at::Tensor is_class(const at::Tensor& labels, int64_t classes);

}  // namespace seg
