#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"
#include "segcore/ops/class_histogram/class_histogram_launch.hpp"
#include "segcore/ops/kernel_image_launch.hpp"

namespace seg {
namespace {

at::Tensor cuda_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                int64_t classes, int64_t ignore_index) {
  if (classes > cuda::kMostCountedClasses) {
    return composed_class_histogram(prediction, labels, classes, ignore_index);
  }
  SEG_CHECK(prediction.is_cuda(), "predictions on ", prediction.device(), ", labels on ",
            labels.device());
  SEG_CHECK(prediction.numel() == labels.numel(), "labels ", labels.sizes(), " for predictions ",
            prediction.sizes());
  const c10::cuda::CUDAGuard guard(prediction.device());
  if (!cuda::has_kernel_image(cuda::any_class_histogram_kernel())) {
    return composed_class_histogram(prediction, labels, classes, ignore_index);
  }
  const auto p = prediction.to(at::kLong).contiguous();
  // Labels are copied in their own type and widened on the device.
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

TORCH_LIBRARY_IMPL(segcore, CUDA, m) { m.impl("class_histogram", &cuda_class_histogram); }

}  // namespace seg
