/// The kernels as plain functions of pointers: files for nvcc do not see LibTorch, whose headers
/// cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace seg::cuda {

/// One side of logits on its way to the original size: enlarged from `small` to `input`, cut to
/// `unpadded`, turned round, resized to `original`.
struct ResizeAxis {
  int small, input, unpadded, original;
  bool flip;
};

/// Classes of the resized logits. No full-size logits are made.
/// \param logits  [channels, rows.small, columns.small]
/// \param out     [rows.original, columns.original]
template <class Real>
void launch_resize_argmax(const Real* logits, int channels, const ResizeAxis& rows,
                          const ResizeAxis& columns, bool align_corners, double threshold,
                          int64_t* out, cudaStream_t stream);

/// The most classes whose counts fit into the shared memory of a block.
constexpr int64_t kMostCountedClasses = 4000;

/// Adds the counts of `n` pixels to `counts`, [3, classes + 1].
template <class Label>
void launch_class_histogram(const int64_t* prediction, const Label* labels, int64_t n,
                            int64_t classes, int64_t ignore_index, int64_t* counts,
                            cudaStream_t stream);

}  // namespace seg::cuda
