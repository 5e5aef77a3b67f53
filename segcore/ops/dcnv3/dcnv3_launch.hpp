/// The launches of the kernels as plain functions of pointers: files for nvcc do not see LibTorch,
/// whose headers cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include "segcore/ops/dcnv3/dcnv3_geometry.hpp"

namespace seg::cuda {

/// \param x  [images, height, width, groups * channels]; offset, mask and out as of dcnv3.
template <class Real>
void launch_dcnv3(const Real* x, const Real* offset, const Real* mask, const Dcnv3Geometry& g,
                  Real* out, cudaStream_t stream);

/// \param grad_x  holds zeros.
template <class Real>
void launch_dcnv3_backward(const Real* grad, const Real* x, const Real* offset, const Real* mask,
                           const Dcnv3Geometry& g, Real* grad_x, Real* grad_offset, Real* grad_mask,
                           cudaStream_t stream);

/// For has_kernel_image.
const void* any_dcnv3_kernel();

}  // namespace seg::cuda
