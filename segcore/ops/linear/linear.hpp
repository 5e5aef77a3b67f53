/// Products of rows with the weights of a linear layer.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// As at::linear. Rows of floats are convolved by a kernel of 1 on CPUs with AVX-512, outside of
/// autocast: oneDNN uses these instructions on all of them, MKL on Intel's alone.
/// \param x  [..., I]. \param weight  [O, I]. \param bias  [O], or undefined. \return [..., O]
at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace seg
