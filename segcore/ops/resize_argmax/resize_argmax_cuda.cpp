#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/kernel_image_launch.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"
#include "segcore/ops/resize_argmax/resize_argmax_launch.hpp"

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

at::Tensor cuda_resize_argmax(const at::Tensor& logits, at::IntArrayRef input,
                              at::IntArrayRef unpadded, at::IntArrayRef original,
                              bool flip_horizontal, bool flip_vertical, bool align_corners,
                              double threshold) {
  SEG_CHECK(logits.dim() == 3, "expected [C, h, w], got ", logits.sizes());
  const auto geometry =
      logits_geometry(input, unpadded, original, flip_horizontal, flip_vertical, align_corners);
  const c10::cuda::CUDAGuard guard(logits.device());
  if (!cuda::has_kernel_image(cuda::any_resize_argmax_kernel())) {
    return composed_resize_argmax(LogitRows(logits, geometry), threshold);
  }
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

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CUDA, m) { m.impl("resize_argmax", &cuda_resize_argmax); }

}  // namespace seg
