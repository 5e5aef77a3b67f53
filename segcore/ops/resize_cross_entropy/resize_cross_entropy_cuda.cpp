#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "segcore/ops/kernel_image_launch.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_launch.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// The type that kernels know a type of LibTorch by.
template <class Scalar>
struct KernelValue {
  using Type = Scalar;
};
template <>
struct KernelValue<at::Half> {
  using Type = __half;
};
template <>
struct KernelValue<at::BFloat16> {
  using Type = __nv_bfloat16;
};

/// The operands of a call as the kernels take them, and who owns them.
struct CrossEntropyCall {
  at::Tensor logits, labels, class_weight, pixel_weight;
  int64_t ignore_index;
  ResizedLogits geometry;

  CrossEntropyCall(const at::Tensor& logits_, const at::Tensor& labels_, int64_t ignore_index_,
                   bool align_corners)
      : logits(logits_.contiguous()),
        labels(labels_.to(at::kLong).contiguous()),
        ignore_index(ignore_index_),
        geometry{static_cast<int>(logits.size(0)),
                 static_cast<int>(logits.size(1)),
                 static_cast<int>(logits.size(2)),
                 static_cast<int>(logits.size(3)),
                 static_cast<int>(labels.size(1)),
                 static_cast<int>(labels.size(2)),
                 align_corners} {}
  void set_weights(const OptionalTensor& of_class, const OptionalTensor& of_pixel) {
    const auto type = at::toOpMathType(logits.scalar_type());
    if (of_class) class_weight = of_class->to(type).contiguous();
    if (of_pixel) pixel_weight = of_pixel->to(type).contiguous();
  }
  template <class Real, class Value>
  CrossEntropyOperands<Real, Value> operands() const {
    const auto values = [](const at::Tensor& t) {
      return t.defined() ? t.const_data_ptr<Real>() : nullptr;
    };
    return {static_cast<const Value*>(logits.const_data_ptr()), labels.const_data_ptr<int64_t>(),
            values(class_weight), values(pixel_weight), ignore_index};
  }
  bool can_run() const {
    return labels.numel() > 0 && logits.numel() > 0 &&
           cuda::has_kernel_image(cuda::any_cross_entropy_kernel());
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cuda_resize_cross_entropy(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& class_weight,
    const OptionalTensor& pixel_weight, int64_t ignore_index, bool align_corners,
    bool with_gradient) {
  const c10::cuda::CUDAGuard guard(logits.device());
  CrossEntropyCall call(logits, labels, ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                         align_corners, with_gradient);
  }
  call.set_weights(class_weight, pixel_weight);
  const auto& g = call.geometry;
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  auto sums = at::empty({cuda::cross_entropy_blocks(g), 4}, logits.options().dtype(at::kDouble));
  at::Tensor gradient, notes;
  if (with_gradient) gradient = at::empty_like(call.logits);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "resize_cross_entropy", [&] {
        using Value = KernelValue<scalar_t>::Type;
        using Real = at::opmath_type<scalar_t>;
        using Note = CrossEntropyNote<Real>;
        if (with_gradient) {
          notes = at::empty({labels.numel() * static_cast<int64_t>(sizeof(Note))},
                            logits.options().dtype(at::kByte));
        }
        auto* of_pixels = with_gradient ? static_cast<Note*>(notes.mutable_data_ptr()) : nullptr;
        cuda::launch_cross_entropy<Real, Value>(
            call.operands<Real, Value>(), g, {sums.mutable_data_ptr<double>(), of_pixels, nullptr},
            stream);
        if (!with_gradient) return;
        cuda::launch_cross_entropy_gradient<Real, Value>(
            of_pixels, static_cast<const Value*>(call.logits.const_data_ptr()), g,
            static_cast<Value*>(gradient.mutable_data_ptr()), stream);
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const auto total = sums.sum(0);
  const auto type = at::toOpMathType(logits.scalar_type());
  return {total[0].to(type), total[1].to(type), total.narrow(0, 2, 2).to(at::kLong), gradient};
}

at::Tensor cuda_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                           int64_t ignore_index, bool align_corners) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const CrossEntropyCall call(logits, labels, ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_pixel_cross_entropy(logits, labels, ignore_index, align_corners);
  }
  const auto type = at::toOpMathType(logits.scalar_type());
  auto out = at::empty(labels.sizes(), logits.options().dtype(type));
  const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "resize_pixel_cross_entropy", [&] {
        using Value = KernelValue<scalar_t>::Type;
        using Real = at::opmath_type<scalar_t>;
        cuda::launch_cross_entropy<Real, Value>(call.operands<Real, Value>(), call.geometry,
                                                {nullptr, nullptr, out.mutable_data_ptr<Real>()},
                                                stream);
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
