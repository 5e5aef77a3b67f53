/// Logits and labels of another size: what operators on both check, and how their definitions
/// resize logits to the labels, and gradients back.
#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace seg {

/// \param of_class  weights [C]; undefined: none.
/// \param of_pixel  weights [N, H, W]; undefined: none.
/// \throws Error unless logits are [N, C, h, w], labels [N, H, W], and all on one device.
void check_label_operands(const at::Tensor& logits, const at::Tensor& labels,
                          std::initializer_list<at::Tensor> of_class = {},
                          const at::Tensor& of_pixel = {});

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
