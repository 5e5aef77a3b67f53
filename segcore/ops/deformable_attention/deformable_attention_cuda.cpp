#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "segcore/ops/deformable_attention/deformable_attention.hpp"
#include "segcore/ops/deformable_attention/deformable_attention_launch.hpp"
#include "segcore/ops/kernel_image_launch.hpp"

namespace seg {
namespace {

at::Tensor cuda_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                     const at::Tensor& locations, const at::Tensor& weights) {
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  const c10::cuda::CUDAGuard guard(value.device());
  if (!cuda::has_kernel_image(cuda::any_deformable_attention_kernel())) {
    return composed_deformable_attention(value, sizes, locations, weights);
  }
  const auto values = value.contiguous(), places = locations.contiguous(),
             factors = weights.contiguous();
  auto out = at::empty({g.images, g.queries, g.heads * g.channels}, value.options());
  const auto stream = c10::cuda::getCurrentCUDAStream(value.device().index());
  AT_DISPATCH_FLOATING_TYPES(value.scalar_type(), "deformable_attention", [&] {
    cuda::launch_deformable_attention<scalar_t>(
        values.const_data_ptr<scalar_t>(), places.const_data_ptr<scalar_t>(),
        factors.const_data_ptr<scalar_t>(), g, out.mutable_data_ptr<scalar_t>(), stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

DeformableAttentionGradients cuda_deformable_attention_backward(const at::Tensor& grad,
                                                                const at::Tensor& value,
                                                                at::IntArrayRef sizes,
                                                                const at::Tensor& locations,
                                                                const at::Tensor& weights) {
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  const c10::cuda::CUDAGuard guard(value.device());
  if (!cuda::has_kernel_image(cuda::any_deformable_attention_kernel())) {
    return composed_deformable_attention_backward(grad, value, sizes, locations, weights);
  }
  // Queries add to shared pixels in any order, as in the composition.
  at::globalContext().alertNotDeterministic("deformable_attention_backward_cuda");
  const auto from = grad.contiguous(), values = value.contiguous(), places = locations.contiguous(),
             factors = weights.contiguous();
  auto grad_value = at::zeros_like(values), grad_locations = at::empty_like(places),
       grad_weights = at::empty_like(factors);
  const auto stream = c10::cuda::getCurrentCUDAStream(value.device().index());
  AT_DISPATCH_FLOATING_TYPES(value.scalar_type(), "deformable_attention_backward", [&] {
    cuda::launch_deformable_attention_backward<scalar_t>(
        {from.const_data_ptr<scalar_t>(), values.const_data_ptr<scalar_t>(),
         places.const_data_ptr<scalar_t>(), factors.const_data_ptr<scalar_t>()},
        g,
        {grad_value.mutable_data_ptr<scalar_t>(), grad_locations.mutable_data_ptr<scalar_t>(),
         grad_weights.mutable_data_ptr<scalar_t>()},
        stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) {
  m.impl("deformable_attention", &cuda_deformable_attention);
  m.impl("deformable_attention_backward", &cuda_deformable_attention_backward);
}

}  // namespace seg
