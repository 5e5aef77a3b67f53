/// The launches of the kernels as plain functions of pointers.
#pragma once
#include <cuda_runtime_api.h>

#include "segcore/ops/resize_class_sums/resize_class_sums_pixel.hpp"

namespace seg::cuda {

/// Hit, mass and present.
inline constexpr int kClassSums = 3;
/// A block sums so many neighbouring classes over so many pixels of an image.
inline constexpr int kSummedClasses = 4, kSumThreads = 256, kPixelsOfThread = 16;

/// The shape of the partial sums: [N, bands, classes, kClassSums].
struct ClassSumParts {
  int bands;    ///< of the pixels of an image
  int classes;  ///< those of the logits, and some more without a meaning

  explicit ClassSumParts(const ResizedLogits& g);
};

/// \param notes  [N, H, W]; with means where the operands have gradients.
template <class Real, class Value>
void launch_class_sum_notes(const ClassSumOperands<Real, Value>& in, const ResizedLogits& g,
                            ClassSumNote<Real>* notes, cudaStream_t stream);

/// \tparam Value  float, double, __half or __nv_bfloat16.
/// \tparam Real   double for double, else float.
/// \param sums  see ClassSumParts.
template <class Real, class Value>
void launch_class_sums(const ClassSumOperands<Real, Value>& in, const ClassSumNote<Real>* notes,
                       const ResizedLogits& g, double* sums, cudaStream_t stream);

/// \param gradient  [N, C, h, w]
template <class Real, class Value>
void launch_class_sum_gradient(const ClassSumOperands<Real, Value>& in,
                               const ClassSumNote<Real>* notes, const ResizedLogits& g,
                               Value* gradient, cudaStream_t stream);

/// For has_kernel_image.
const void* any_class_sum_kernel();

}  // namespace seg::cuda
