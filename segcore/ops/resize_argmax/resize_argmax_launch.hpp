/// The launch of the kernel as a plain function of pointers: files for nvcc do not see LibTorch,
/// whose headers cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace seg::cuda {

/// One side of logits on its way to the original size: enlarged from `small` to `input`, cropped to
/// `unpadded`, flipped back, resized to `original`.
struct ResizeAxis {
  int small, input, unpadded, original;
  bool flip;
};

/// Classes of the resized logits; the full-size logits are never stored.
/// \param logits  [channels, rows.small, columns.small]
/// \param out     [rows.original, columns.original]
template <class Real>
void launch_resize_argmax(const Real* logits, int channels, const ResizeAxis& rows,
                          const ResizeAxis& columns, bool align_corners, double threshold,
                          int64_t* out, cudaStream_t stream);

/// For has_kernel_image.
const void* any_resize_argmax_kernel();

}  // namespace seg::cuda
