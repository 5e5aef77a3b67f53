/// The launches of the kernels as plain functions of pointers: files for nvcc do not see LibTorch,
/// whose headers cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include "segcore/ops/deformable_attention/deformable_attention_sample.hpp"

namespace seg::cuda {

template <class Real>
void launch_deformable_attention(const Real* value, const Real* locations, const Real* weights,
                                 const DeformableAttentionGeometry& g, Real* out,
                                 cudaStream_t stream);

template <class Real>
void launch_deformable_attention_backward(const AttentionOperands<Real>& in,
                                          const DeformableAttentionGeometry& g,
                                          const AttentionGradients<Real>& out, cudaStream_t stream);

/// For has_kernel_image.
const void* any_deformable_attention_kernel();

}  // namespace seg::cuda
