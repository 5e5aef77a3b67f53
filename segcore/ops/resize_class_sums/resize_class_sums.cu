// A thread for each pixel of the labels notes what its softmax needs. From these notes a block sums
// some classes over a band of pixels, and in the backward pass threads for each place of the logits
// sum the gradients of the pixels that are mixed from it. The composition holds logits,
// probabilities and gradients at full size.
#include "segcore/ops/resize_class_sums/resize_class_sums_launch.hpp"
#include "segcore/ops/resized_pixels.cuh"

namespace seg::cuda {
namespace {

constexpr int kBandPixels = kSumThreads * kPixelsOfThread;

template <class Real, class Value>
__global__ void class_sum_note_kernel(ClassSumOperands<Real, Value> in, ResizedLogits g,
                                      ClassSumNote<Real>* __restrict__ notes) {
  const int64_t pixel = pixel_of_thread(g);
  if (pixel >= 0) notes[pixel] = class_sum_note(in, g, pixel);
}

/// The band of pixels is blockIdx.x, the first class follows from blockIdx.y, the image is
/// blockIdx.z. A thread adds few enough pixels for its sums to be Real.
template <class Real, class Value>
__global__ void class_sum_kernel(ClassSumOperands<Real, Value> in,
                                 const ClassSumNote<Real>* __restrict__ notes, ResizedLogits g,
                                 double* __restrict__ sums) {
  const int64_t pixels = static_cast<int64_t>(g.out_height) * g.out_width;
  const int64_t of_image = blockIdx.z * pixels;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBandPixels + threadIdx.x;
  const int first = blockIdx.y * kSummedClasses;
  ClassTerms<kSummedClasses, Real> found;
  for (int i = 0; i < kPixelsOfThread; ++i) {
    const int64_t at = begin + static_cast<int64_t>(i) * kSumThreads;
    if (at >= pixels) break;
    const ClassSumNote<Real> note = notes[of_image + at];
    if (note.counts()) add_pixel(in, g, note, of_image + at, first, g.classes, found);
  }
  double terms[kSummedClasses * kClassSums];
  for (int k = 0; k < kSummedClasses; ++k) {
    terms[k * kClassSums] = found.hit[k];
    terms[k * kClassSums + 1] = found.mass[k];
    terms[k * kClassSums + 2] = found.present[k];
  }
  const int64_t band = static_cast<int64_t>(blockIdx.z) * gridDim.x + blockIdx.x;
  write_block_sums<kSumThreads>(
      terms, sums + (band * gridDim.y + blockIdx.y) * (kSummedClasses * kClassSums));
}

}  // namespace

ClassSumParts::ClassSumParts(const ResizedLogits& g)
    : bands(static_cast<int>((static_cast<int64_t>(g.out_height) * g.out_width + kBandPixels - 1) /
                             kBandPixels)),
      classes(tiles_of(g.classes, kSummedClasses) * kSummedClasses) {}

template <class Real, class Value>
void launch_class_sum_notes(const ClassSumOperands<Real, Value>& in, const ResizedLogits& g,
                            ClassSumNote<Real>* notes, cudaStream_t stream) {
  class_sum_note_kernel<Real, Value><<<tiles(g), tile_threads(), 0, stream>>>(in, g, notes);
}

template <class Real, class Value>
void launch_class_sums(const ClassSumOperands<Real, Value>& in, const ClassSumNote<Real>* notes,
                       const ResizedLogits& g, double* sums, cudaStream_t stream) {
  const ClassSumParts parts(g);
  const dim3 grid(static_cast<unsigned>(parts.bands),
                  static_cast<unsigned>(parts.classes / kSummedClasses),
                  static_cast<unsigned>(g.images));
  class_sum_kernel<Real, Value><<<grid, kSumThreads, 0, stream>>>(in, notes, g, sums);
}

template <class Real, class Value>
void launch_class_sum_gradient(const ClassSumOperands<Real, Value>& in,
                               const ClassSumNote<Real>* notes, const ResizedLogits& g,
                               Value* gradient, cudaStream_t stream) {
  launch_place_gradients<Real>(ClassSumGradient<Real, Value>{in, notes}, in.logits, g, gradient,
                               stream);
}

#define SEG_CLASS_SUM_KERNELS(Real, Value)                                                         \
  template void launch_class_sum_notes(const ClassSumOperands<Real, Value>&, const ResizedLogits&, \
                                       ClassSumNote<Real>*, cudaStream_t);                         \
  template void launch_class_sums(const ClassSumOperands<Real, Value>&, const ClassSumNote<Real>*, \
                                  const ResizedLogits&, double*, cudaStream_t);                    \
  template void launch_class_sum_gradient(const ClassSumOperands<Real, Value>&,                    \
                                          const ClassSumNote<Real>*, const ResizedLogits&, Value*, \
                                          cudaStream_t);
SEG_CLASS_SUM_KERNELS(float, float)
SEG_CLASS_SUM_KERNELS(double, double)
SEG_CLASS_SUM_KERNELS(float, __half)
SEG_CLASS_SUM_KERNELS(float, __nv_bfloat16)
#undef SEG_CLASS_SUM_KERNELS

const void* any_class_sum_kernel() {
  return reinterpret_cast<const void*>(&class_sum_kernel<float, float>);
}

}  // namespace seg::cuda
