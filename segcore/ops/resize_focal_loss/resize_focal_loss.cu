// A thread for each pixel of the labels sums the losses of its classes, and threads for each place
// of the logits sum the gradients of the pixels that are mixed from it. The composition holds
// logits and gradients at full size.
#include "segcore/ops/resize_focal_loss/resize_focal_loss_launch.hpp"
#include "segcore/ops/resized_pixels.cuh"

namespace seg::cuda {
namespace {

template <class Real, class Value>
__global__ void focal_loss_kernel(FocalLossPixels<Real, Value> pixels, ResizedLogits g,
                                  double* __restrict__ sums, Real* __restrict__ losses) {
  const int64_t pixel = pixel_of_thread(g);
  double terms[1] = {0};
  if (pixel >= 0) {
    const FocalNote<Real> note = pixels.note(pixel);
    const Real loss = note.weight != 0 ? pixels.loss(note, g, pixel) : Real(0);
    if (losses) losses[pixel] = loss;
    terms[0] = static_cast<double>(note.weight) * static_cast<double>(loss);
  }
  if (sums) write_block_sums<kTileThreads>(terms, sums + number_of_block());
}

}  // namespace

template <class Real, class Value>
void launch_focal_loss(const FocalOperands<Real, Value>& in, const ResizedLogits& g, double* sums,
                       Real* losses, cudaStream_t stream) {
  focal_loss_kernel<Real, Value>
      <<<tiles(g), tile_threads(), 0, stream>>>(FocalLossPixels<Real, Value>{in}, g, sums, losses);
}

template <class Real, class Value>
void launch_focal_loss_gradient(const FocalOperands<Real, Value>& in, const ResizedLogits& g,
                                Value* gradient, cudaStream_t stream) {
  launch_place_gradients<Real>(FocalLossPixels<Real, Value>{in}, in.logits, g, gradient, stream);
}

#define SEG_FOCAL_LOSS_KERNELS(Real, Value)                                                \
  template void launch_focal_loss(const FocalOperands<Real, Value>&, const ResizedLogits&, \
                                  double*, Real*, cudaStream_t);                           \
  template void launch_focal_loss_gradient(const FocalOperands<Real, Value>&,              \
                                           const ResizedLogits&, Value*, cudaStream_t);
SEG_FOCAL_LOSS_KERNELS(float, float)
SEG_FOCAL_LOSS_KERNELS(double, double)
SEG_FOCAL_LOSS_KERNELS(float, __half)
SEG_FOCAL_LOSS_KERNELS(float, __nv_bfloat16)
#undef SEG_FOCAL_LOSS_KERNELS

const void* any_focal_loss_kernel() {
  return reinterpret_cast<const void*>(&focal_loss_kernel<float, float>);
}

}  // namespace seg::cuda
