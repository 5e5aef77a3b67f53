/// The launches of the kernels as plain functions of pointers: files for nvcc do not see LibTorch,
/// whose headers cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_pixel.hpp"

namespace seg::cuda {

/// Weighted losses, class weights, right and valid pixels.
inline constexpr int kCrossEntropySums = 4;

/// What the first kernel writes; null: not wanted.
template <class Real>
struct CrossEntropyResults {
  double* sums;                   ///< [tile_count, kCrossEntropySums]
  CrossEntropyNote<Real>* notes;  ///< [N, H, W]
  Real* losses;                   ///< [N, H, W]
};

/// \tparam Value  float, double, __half or __nv_bfloat16.
/// \tparam Real   double for double, else float.
template <class Real, class Value>
void launch_cross_entropy(const CrossEntropyOperands<Real, Value>& in, const ResizedLogits& g,
                          const CrossEntropyResults<Real>& out, cudaStream_t stream);

/// \param gradient  [N, C, h, w]
template <class Real, class Value>
void launch_cross_entropy_gradient(const CrossEntropyNote<Real>* notes, const Value* logits,
                                   const ResizedLogits& g, Value* gradient, cudaStream_t stream);

/// For has_kernel_image.
const void* any_cross_entropy_kernel();

}  // namespace seg::cuda
