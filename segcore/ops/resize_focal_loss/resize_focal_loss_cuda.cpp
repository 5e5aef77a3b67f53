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
#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"
#include "segcore/ops/resize_focal_loss/resize_focal_loss_launch.hpp"
#include "segcore/ops/resized_call.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// The operands of a call as kernels read them.
struct FocalCall : ResizedCall {
  at::Tensor absent_weight, present_weight, pixel_weight;
  double gamma;
  int64_t ignore_index;

  FocalCall(const at::Tensor& logits_, const at::Tensor& labels_, const OptionalTensor& absent,
            const OptionalTensor& present, const OptionalTensor& of_pixel, double gamma_,
            int64_t ignored, bool align_corners)
      : ResizedCall(logits_, labels_, align_corners),
        absent_weight(in_real(absent)),
        present_weight(in_real(present)),
        pixel_weight(in_real(of_pixel)),
        gamma(gamma_),
        ignore_index(ignored) {}

  bool can_run() const {
    return !is_empty() && cuda::has_kernel_image(cuda::any_focal_loss_kernel());
  }
  template <class Real, class Value>
  FocalOperands<Real, Value> operands() const {
    return {logit_data<Value>(),
            labels.const_data_ptr<int64_t>(),
            data_or_null<Real>(absent_weight),
            data_or_null<Real>(present_weight),
            data_or_null<Real>(pixel_weight),
            static_cast<Real>(gamma),
            ignore_index};
  }
};

std::tuple<at::Tensor, at::Tensor> cuda_resize_focal_loss(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& absent_weight,
    const OptionalTensor& present_weight, const OptionalTensor& pixel_weight, double gamma,
    int64_t ignore_index, bool align_corners, bool with_gradient) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const FocalCall call(logits, labels, absent_weight, present_weight, pixel_weight, gamma,
                       ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_focal_loss(logits, labels, absent_weight, present_weight, pixel_weight,
                                      gamma, ignore_index, align_corners, with_gradient);
  }
  const auto& g = call.geometry;
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  auto sums = at::empty({tile_count(g)}, logits.options().dtype(at::kDouble));
  at::Tensor gradient;
  if (with_gradient) gradient = at::empty_like(call.logits);
  cuda::with_kernel_types(logits.scalar_type(), [&](auto real, auto value) {
    using Real = decltype(real);
    using Value = decltype(value);
    const auto in = call.operands<Real, Value>();
    cuda::launch_focal_loss<Real, Value>(in, g, sums.mutable_data_ptr<double>(), nullptr, stream);
    if (!with_gradient) return;
    cuda::launch_focal_loss_gradient<Real, Value>(
        in, g, static_cast<Value*>(gradient.mutable_data_ptr()), stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {sums.sum().to(call.real()), gradient};
}

at::Tensor cuda_resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                        const OptionalTensor& absent_weight,
                                        const OptionalTensor& present_weight, double gamma,
                                        int64_t ignore_index, bool align_corners) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const FocalCall call(logits, labels, absent_weight, present_weight, std::nullopt, gamma,
                       ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_pixel_focal_loss(logits, labels, absent_weight, present_weight, gamma,
                                            ignore_index, align_corners);
  }
  auto out = at::empty(labels.sizes(), logits.options().dtype(call.real()));
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  cuda::with_kernel_types(logits.scalar_type(), [&](auto real, auto value) {
    using Real = decltype(real);
    using Value = decltype(value);
    cuda::launch_focal_loss<Real, Value>(call.operands<Real, Value>(), call.geometry, nullptr,
                                         out.mutable_data_ptr<Real>(), stream);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) {
  m.impl("resize_focal_loss", &cuda_resize_focal_loss);
  m.impl("resize_pixel_focal_loss", &cuda_resize_pixel_focal_loss);
}

}  // namespace seg
