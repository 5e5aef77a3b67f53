/// The operator segcore::depthwise_conv2d: a convolution of each channel by a kernel of its own.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// As at::conv2d with as many groups as channels. Maps of floats, contiguous or channels-last, have
/// kernels of their own on a CPU, outside of autocast, forward and backward: oneDNN's are far from
/// the speed of memory. Results do not depend on the number of threads.
/// \param x        [N, C, H, W]. \param weight  [C, 1, kh, kw]. \param bias  [C], or undefined.
/// \param stride   of height and width, as `padding` and `dilation`.
/// \return [N, C, H', W']
at::Tensor depthwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation);

}  // namespace seg
