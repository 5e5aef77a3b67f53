/// The operator segcore::conv2d: the convolution of maps.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// As at::conv2d. Maps of floats on a CPU have kernels of their own, outside of autocast, where
/// these are faster than oneDNN's: for kernels of 1, of 3 (by Winograd's products) and for one
/// kernel a channel. Results do not depend on the number of threads there. \param x       [N, C, H,
/// W]. \param weight  [O, C / groups, kh, kw]. \param bias  [O], or undefined. \param stride  of
/// height and width, as `padding` and `dilation`. \return [N, O, H', W']
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  at::IntArrayRef stride = {1, 1}, at::IntArrayRef padding = {0, 0},
                  at::IntArrayRef dilation = {1, 1}, int64_t groups = 1);

}  // namespace seg
