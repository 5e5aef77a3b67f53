// Two kernels: a thread for each pixel of the labels makes its loss from the few logits around it,
// and threads for each place of the logits sum the gradients of the pixels that are mixed from it,
// by the maxima and sums that the first has noted. The composition holds logits and gradients at
// full size.
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_launch.hpp"
#include "segcore/ops/resized_pixels.cuh"

namespace seg::cuda {
namespace {

template <class Real, class Value>
__global__ void cross_entropy_kernel(CrossEntropyOperands<Real, Value> in, ResizedLogits g,
                                     CrossEntropyResults<Real> out) {
  const int64_t pixel = pixel_of_thread(g);
  double terms[kCrossEntropySums] = {0, 0, 0, 0};
  if (pixel >= 0) {
    const auto found = cross_entropy_pixel(in, g, pixel);
    if (out.losses) out.losses[pixel] = found.loss;
    if (out.notes) out.notes[pixel] = found.note;
    terms[0] = static_cast<double>(found.note.weight) * static_cast<double>(found.loss);
    terms[1] = found.class_weight;
    terms[2] = found.right;
    terms[3] = found.valid;
  }
  if (!out.sums) return;
  write_block_sums<kTileThreads>(terms, out.sums + number_of_block() * kCrossEntropySums);
}

}  // namespace

template <class Real, class Value>
void launch_cross_entropy(const CrossEntropyOperands<Real, Value>& in, const ResizedLogits& g,
                          const CrossEntropyResults<Real>& out, cudaStream_t stream) {
  cross_entropy_kernel<Real, Value><<<tiles(g), tile_threads(), 0, stream>>>(in, g, out);
}

template <class Real, class Value>
void launch_cross_entropy_gradient(const CrossEntropyNote<Real>* notes, const Value* logits,
                                   const ResizedLogits& g, Value* gradient, cudaStream_t stream) {
  launch_place_gradients<Real>(CrossEntropyGradient<Real>{notes}, logits, g, gradient, stream);
}

#define SEG_CROSS_ENTROPY_KERNELS(Real, Value)                                               \
  template void launch_cross_entropy(const CrossEntropyOperands<Real, Value>&,               \
                                     const ResizedLogits&, const CrossEntropyResults<Real>&, \
                                     cudaStream_t);                                          \
  template void launch_cross_entropy_gradient(const CrossEntropyNote<Real>*, const Value*,   \
                                              const ResizedLogits&, Value*, cudaStream_t);
SEG_CROSS_ENTROPY_KERNELS(float, float)
SEG_CROSS_ENTROPY_KERNELS(double, double)
SEG_CROSS_ENTROPY_KERNELS(float, __half)
SEG_CROSS_ENTROPY_KERNELS(float, __nv_bfloat16)
#undef SEG_CROSS_ENTROPY_KERNELS

const void* any_cross_entropy_kernel() {
  return reinterpret_cast<const void*>(&cross_entropy_kernel<float, float>);
}

}  // namespace seg::cuda
