/// The launches of the kernels as plain functions of pointers.
#pragma once
#include <cuda_runtime_api.h>

#include "segcore/ops/resize_focal_loss/resize_focal_loss_pixel.hpp"

namespace seg::cuda {

/// \tparam Value  float, double, __half or __nv_bfloat16.
/// \tparam Real   double for double, else float.
/// \param sums    of weighted losses, [tile_count]; null: not wanted.
/// \param losses  [N, H, W], 0 where they are ignored; null: not wanted.
template <class Real, class Value>
void launch_focal_loss(const FocalOperands<Real, Value>& in, const ResizedLogits& g, double* sums,
                       Real* losses, cudaStream_t stream);

/// \param gradient  [N, C, h, w]
template <class Real, class Value>
void launch_focal_loss_gradient(const FocalOperands<Real, Value>& in, const ResizedLogits& g,
                                Value* gradient, cudaStream_t stream);

/// For has_kernel_image.
const void* any_focal_loss_kernel();

}  // namespace seg::cuda
