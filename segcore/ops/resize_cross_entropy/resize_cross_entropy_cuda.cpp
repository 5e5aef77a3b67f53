#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "segcore/ops/kernel_image_launch.hpp"
#include "segcore/ops/kernel_types_launch.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_launch.hpp"
#include "segcore/ops/resized_call.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

bool can_run(const ResizedCall& call) {
  return !call.is_empty() && cuda::has_kernel_image(cuda::any_cross_entropy_kernel());
}

template <class Real, class Value>
CrossEntropyOperands<Real, Value> cross_entropy_operands(const ResizedCall& call,
                                                         const at::Tensor& class_weight,
                                                         const at::Tensor& pixel_weight,
                                                         int64_t ignore_index) {
  return {call.logit_data<Value>(), call.labels.const_data_ptr<int64_t>(),
          data_or_null<Real>(class_weight), data_or_null<Real>(pixel_weight), ignore_index};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cuda_resize_cross_entropy(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& class_weight,
    const OptionalTensor& pixel_weight, int64_t ignore_index, bool align_corners,
    bool with_gradient) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const ResizedCall call(logits, labels, align_corners);
  if (!can_run(call)) {
    return composed_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                         align_corners, with_gradient);
  }
  const auto& g = call.geometry;
  const auto of_class = call.in_real(class_weight), of_pixel = call.in_real(pixel_weight);
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  auto sums =
      at::empty({tile_count(g), cuda::kCrossEntropySums}, logits.options().dtype(at::kDouble));
  at::Tensor gradient, notes;
  if (with_gradient) gradient = at::empty_like(call.logits);
  cuda::with_kernel_types(logits.scalar_type(), [&](auto real, auto value) {
    using Real = decltype(real);
    using Value = decltype(value);
    using Note = CrossEntropyNote<Real>;
    if (with_gradient) {
      notes = at::empty({labels.numel() * static_cast<int64_t>(sizeof(Note))},
                        logits.options().dtype(at::kByte));
    }
    auto* of_pixels = with_gradient ? static_cast<Note*>(notes.mutable_data_ptr()) : nullptr;
    cuda::launch_cross_entropy<Real, Value>(
        cross_entropy_operands<Real, Value>(call, of_class, of_pixel, ignore_index), g,
        {sums.mutable_data_ptr<double>(), of_pixels, nullptr}, stream);
    if (!with_gradient) return;
    cuda::launch_cross_entropy_gradient<Real, Value>(
        of_pixels, call.logit_data<Value>(), g, static_cast<Value*>(gradient.mutable_data_ptr()),
        stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const auto total = sums.sum(0);
  return {total[0].to(call.real()), total[1].to(call.real()), total.narrow(0, 2, 2).to(at::kLong),
          gradient};
}

at::Tensor cuda_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                           int64_t ignore_index, bool align_corners) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const ResizedCall call(logits, labels, align_corners);
  if (!can_run(call)) {
    return composed_resize_pixel_cross_entropy(logits, labels, ignore_index, align_corners);
  }
  auto out = at::empty(labels.sizes(), logits.options().dtype(call.real()));
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  cuda::with_kernel_types(logits.scalar_type(), [&](auto real, auto value) {
    using Real = decltype(real);
    using Value = decltype(value);
    cuda::launch_cross_entropy<Real, Value>(
        cross_entropy_operands<Real, Value>(call, {}, {}, ignore_index), call.geometry,
        {nullptr, nullptr, out.mutable_data_ptr<Real>()}, stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) {
  m.impl("resize_cross_entropy", &cuda_resize_cross_entropy);
  m.impl("resize_pixel_cross_entropy", &cuda_resize_pixel_cross_entropy);
}

}  // namespace seg
