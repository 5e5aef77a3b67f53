#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "segcore/ops/dcnv3/dcnv3.hpp"
#include "segcore/ops/dcnv3/dcnv3_launch.hpp"
#include "segcore/ops/kernel_image_launch.hpp"

namespace seg {
namespace {

at::Tensor cuda_dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                      at::IntArrayRef sides, int64_t groups, double offset_scale) {
  const auto window = dcnv3_window(sides, groups, offset_scale);
  const auto g = dcnv3_geometry(x, offset, mask, window);
  const c10::cuda::CUDAGuard guard(x.device());
  if (!cuda::has_kernel_image(cuda::any_dcnv3_kernel())) {
    return composed_dcnv3(x, offset, mask, window);
  }
  const auto xs = x.contiguous(), offsets = offset.contiguous(), masks = mask.contiguous();
  auto out = at::empty({g.images, g.out_height, g.out_width, g.groups * g.channels}, x.options());
  const auto stream = c10::cuda::getCurrentCUDAStream(x.device().index());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dcnv3", [&] {
    cuda::launch_dcnv3<scalar_t>(xs.const_data_ptr<scalar_t>(), offsets.const_data_ptr<scalar_t>(),
                                 masks.const_data_ptr<scalar_t>(), g,
                                 out.mutable_data_ptr<scalar_t>(), stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Dcnv3Gradients cuda_dcnv3_backward(const at::Tensor& grad, const at::Tensor& x,
                                   const at::Tensor& offset, const at::Tensor& mask,
                                   at::IntArrayRef sides, int64_t groups, double offset_scale) {
  const auto window = dcnv3_window(sides, groups, offset_scale);
  const auto g = dcnv3_geometry(x, offset, mask, window);
  const c10::cuda::CUDAGuard guard(x.device());
  if (!cuda::has_kernel_image(cuda::any_dcnv3_kernel())) {
    return composed_dcnv3_backward(grad, x, offset, mask, window);
  }
  // Outputs add to shared pixels in any order, as in the composition.
  at::globalContext().alertNotDeterministic("dcnv3_backward_cuda");
  const auto from = grad.contiguous();
  const auto xs = x.contiguous(), offsets = offset.contiguous(), masks = mask.contiguous();
  auto grad_x = at::zeros_like(xs), grad_offset = at::empty_like(offsets),
       grad_mask = at::empty_like(masks);
  const auto stream = c10::cuda::getCurrentCUDAStream(x.device().index());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dcnv3_backward", [&] {
    cuda::launch_dcnv3_backward<scalar_t>(
        from.const_data_ptr<scalar_t>(), xs.const_data_ptr<scalar_t>(),
        offsets.const_data_ptr<scalar_t>(), masks.const_data_ptr<scalar_t>(), g,
        grad_x.mutable_data_ptr<scalar_t>(), grad_offset.mutable_data_ptr<scalar_t>(),
        grad_mask.mutable_data_ptr<scalar_t>(), stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_offset, grad_mask};
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) {
  m.impl("dcnv3", &cuda_dcnv3);
  m.impl("dcnv3_backward", &cuda_dcnv3_backward);
}

}  // namespace seg
