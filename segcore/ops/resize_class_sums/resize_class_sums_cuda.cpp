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
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums_launch.hpp"
#include "segcore/ops/resized_call.hpp"

namespace seg {
namespace {

/// The operands of a call and of its gradient, as kernels read them.
struct ClassSumCall : ResizedCall {
  LogitActivation activation;
  bool squared;
  std::optional<int64_t> ignore_index;
  at::Tensor by_hit, by_mass;  ///< undefined in the forward pass

  ClassSumCall(const at::Tensor& logits_, const at::Tensor& labels_, int64_t activation_,
               bool squared_, std::optional<int64_t> ignored, bool align_corners)
      : ResizedCall(logits_, labels_, align_corners),
        activation(static_cast<LogitActivation>(activation_)),
        squared(squared_),
        ignore_index(ignored) {}

  bool can_run() const {
    return !is_empty() && cuda::has_kernel_image(cuda::any_class_sum_kernel());
  }
  template <class Real, class Value>
  ClassSumOperands<Real, Value> operands() const {
    return {logit_data<Value>(),
            labels.const_data_ptr<int64_t>(),
            activation,
            squared,
            ignore_index.has_value(),
            ignore_index.value_or(0),
            data_or_null<Real>(by_hit),
            data_or_null<Real>(by_mass)};
  }
  /// Calls `use(operands, notes, stream)` when the notes of all pixels are being made.
  template <class Use>
  void with_notes(const Use& use) const {
    const auto stream = c10::cuda::getCurrentCUDAStream(logits.device().index());
    cuda::with_kernel_types(logits.scalar_type(), [&](auto real, auto value) {
      using Note = ClassSumNote<decltype(real)>;
      const auto notes = at::empty({labels.numel() * static_cast<int64_t>(sizeof(Note))},
                                   logits.options().dtype(at::kByte));
      auto* of_pixels = static_cast<Note*>(notes.mutable_data_ptr());
      const auto in = operands<decltype(real), decltype(value)>();
      cuda::launch_class_sum_notes(in, geometry, of_pixels, stream);
      use(in, of_pixels, stream);
    });
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> cuda_resize_class_sums(
    const at::Tensor& logits, const at::Tensor& labels, int64_t activation, bool squared,
    std::optional<int64_t> ignore_index, bool align_corners) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const ClassSumCall call(logits, labels, activation, squared, ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_class_sums(logits, labels, activation, squared, ignore_index,
                                      align_corners);
  }
  const auto& g = call.geometry;
  const cuda::ClassSumParts parts(g);
  auto sums = at::empty({g.images, parts.bands, parts.classes, cuda::kClassSums},
                        logits.options().dtype(at::kDouble));
  call.with_notes([&](const auto& in, const auto* notes, cudaStream_t stream) {
    cuda::launch_class_sums(in, notes, g, sums.mutable_data_ptr<double>(), stream);
  });
  const auto total = sums.sum(1).narrow(1, 0, g.classes);  // [N, C, kClassSums]
  return {total.select(2, 0).to(call.real()), total.select(2, 1).to(call.real()),
          total.select(2, 2).to(at::kLong)};
}

at::Tensor cuda_resize_class_sums_backward(const at::Tensor& grad_hit, const at::Tensor& grad_mass,
                                           const at::Tensor& logits, const at::Tensor& labels,
                                           int64_t activation, bool squared,
                                           std::optional<int64_t> ignore_index,
                                           bool align_corners) {
  const c10::cuda::CUDAGuard guard(logits.device());
  ClassSumCall call(logits, labels, activation, squared, ignore_index, align_corners);
  if (!call.can_run()) {
    return composed_resize_class_sums_backward(grad_hit, grad_mass, logits, labels, activation,
                                               squared, ignore_index, align_corners);
  }
  call.by_hit = call.in_real(grad_hit);
  call.by_mass = call.in_real(grad_mass);
  auto gradient = at::empty_like(call.logits);
  call.with_notes([&](const auto& in, const auto* notes, cudaStream_t stream) {
    using Value = std::remove_const_t<std::remove_pointer_t<decltype(in.logits)>>;
    cuda::launch_class_sum_gradient(in, notes, call.geometry,
                                    static_cast<Value*>(gradient.mutable_data_ptr()), stream);
  });
  return gradient;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) {
  m.impl("resize_class_sums", &cuda_resize_class_sums);
  m.impl("resize_class_sums_backward", &cuda_resize_class_sums_backward);
}

}  // namespace seg
