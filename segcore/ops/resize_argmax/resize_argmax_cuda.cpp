#include "segcore/ops/cuda/kernels.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "registry/error.hpp"
#include "segcore/evaluation/class_counts.hpp"
#include "segcore/ops/cuda/launch.hpp"
#include "segcore/ops/cuda_kernels.hpp"
#include "segcore/ops/resize_argmax.hpp"

namespace seg {
namespace {

cuda::ResizeAxis resize_axis(int64_t small, const LogitsGeometry& g, size_t side, bool flip) {
  return {.small = static_cast<int>(small),
          .input = static_cast<int>(g.input[side]),
          .unpadded = static_cast<int>(g.unpadded[side]),
          .original = static_cast<int>(g.original[side]),
          .flip = flip};
}

template <class Real>
void launch_resize(const at::Tensor& logits, const LogitsGeometry& g, double threshold,
                   at::Tensor& out) {
  cuda::launch_resize_argmax<Real>(logits.const_data_ptr<Real>(), static_cast<int>(logits.size(0)),
                                   resize_axis(logits.size(1), g, 0, g.flip_vertical),
                                   resize_axis(logits.size(2), g, 1, g.flip_horizontal),
                                   g.align_corners, threshold, out.mutable_data_ptr<int64_t>(),
                                   c10::cuda::getCurrentCUDAStream(logits.device().index()));
}

at::Tensor cuda_resize_argmax(const at::Tensor& logits, const LogitsGeometry& geometry,
                              double threshold) {
  SEG_CHECK(logits.dim() == 3, "expected [C, h, w], got ", logits.sizes());
  const c10::cuda::CUDAGuard guard(logits.device());
  const auto whole = logits.contiguous();
  auto out = at::empty({geometry.original[0], geometry.original[1]},
                       at::TensorOptions(logits.device()).dtype(at::kLong));
  if (whole.scalar_type() == at::kDouble) {
    launch_resize<double>(whole, geometry, threshold, out);
  } else {
    launch_resize<float>(whole.to(at::kFloat), geometry, threshold, out);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

at::Tensor cuda_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                int64_t classes, int64_t ignore_index) {
  if (classes > cuda::kMostCountedClasses) {
    return composed_class_histogram(prediction, labels, classes, ignore_index);
  }
  SEG_CHECK(prediction.numel() == labels.numel(), "labels ", labels.sizes(), " for predictions ",
            prediction.sizes());
  const c10::cuda::CUDAGuard guard(prediction.device());
  const auto p = prediction.to(at::kLong).contiguous();
  // Labels travel as they are and widen on the device.
  auto l = labels.to(p.device(), /*non_blocking=*/true).contiguous();
  if (l.scalar_type() != at::kByte) l = l.to(at::kLong);
  auto counts = at::zeros({3, classes + 1}, p.options());
  const auto stream = c10::cuda::getCurrentCUDAStream(p.device().index());
  auto* to = counts.mutable_data_ptr<int64_t>();
  if (l.scalar_type() == at::kByte) {
    cuda::launch_class_histogram(p.const_data_ptr<int64_t>(), l.const_data_ptr<uint8_t>(),
                                 p.numel(), classes, ignore_index, to, stream);
  } else {
    cuda::launch_class_histogram(p.const_data_ptr<int64_t>(), l.const_data_ptr<int64_t>(),
                                 p.numel(), classes, ignore_index, to, stream);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}

}  // namespace

const CudaKernels& compiled_cuda_kernels() {
  static constexpr CudaKernels kernels{.resize_argmax = cuda_resize_argmax,
                                       .class_histogram = cuda_class_histogram};
  return kernels;
}

}  // namespace seg
