/// Dropout of single values on a CPU, with a byte of each value for the backward pass.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// x * (mask / keep), bit for bit and with the strides of LibTorch's composed dropout, which keeps
/// a factor of each value in the type of x. What saves the result recomputes it from x and mask.
/// \param x     float of any width, on a CPU.
/// \param mask  bool, in the shape and strides of at::empty_like(x).
/// \param keep  probability of a true, above 0.
at::Tensor dropout_by_mask(const at::Tensor& x, const at::Tensor& mask, double keep);

}  // namespace seg
