/// The operator segcore::pointwise_conv2d: a convolution of kernel 1 and stride 1.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// As at::conv2d. Contiguous maps of floats take a product of matrices on a CPU, outside of
/// autocast: oneDNN is up to six times as slow where such a convolution widens a map, though not in
/// its backward pass. \param x       [N, I, H, W]. \param weight  [O, I, 1, 1]. \param bias    [O],
/// or undefined. \return [N, O, H, W]
at::Tensor pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace seg
