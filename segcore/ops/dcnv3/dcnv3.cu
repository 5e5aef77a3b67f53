// Sums of moved taps without the samples in between: the composition writes [N, C, H', W', taps].
#include "segcore/ops/dcnv3/dcnv3_launch.hpp"
#include "segcore/ops/pixels_around.hpp"

namespace seg::cuda {
namespace {

constexpr int kThreads = 256;

/// The pixels around a tap of a group at an output.
/// \param place  number of the output and the group, [N, H', W', groups].
template <class Real>
__device__ PixelsAround<Real> tap_pixels(const Real* offset, int64_t place, int tap,
                                         const Dcnv3Geometry& g) {
  const int64_t taps = g.kernel_h * g.kernel_w, output = place / g.groups;
  const int64_t out_x = output % g.out_width, out_y = output / g.out_width % g.out_height;
  const int64_t i = tap / g.kernel_h, j = tap % g.kernel_h;
  const Real* moved = offset + (place * taps + tap) * 2;
  const Real x = static_cast<Real>(i * g.dilation_w - g.before_w) + moved[0];
  const Real y = static_cast<Real>(j * g.dilation_h - g.before_h) + moved[1];
  const Real scale = static_cast<Real>(g.offset_scale);
  return pixels_around<Real>(static_cast<Real>(out_x * g.stride_w + g.first_w) + x * scale,
                             static_cast<Real>(out_y * g.stride_h + g.first_h) + y * scale,
                             g.height, g.width);
}

/// Where the first channel of a group of an output's image is.
__device__ int64_t first_of(int64_t place, const Dcnv3Geometry& g) {
  const int64_t image = place / (g.groups * g.out_width * g.out_height);
  return (image * g.height * g.width * g.groups + place % g.groups) * g.channels;
}

/// A thread for each value of the result, so that neighbours read neighbouring channels.
template <class Real>
__global__ void dcnv3_kernel(const Real* __restrict__ x, const Real* __restrict__ offset,
                             const Real* __restrict__ mask, Dcnv3Geometry g, int64_t count,
                             Real* __restrict__ out) {
  const int taps = static_cast<int>(g.kernel_h * g.kernel_w);
  const int64_t width = g.groups * g.channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < count;
       n += step) {
    const int64_t place = n / g.channels;
    const Real* values = x + first_of(place, g) + n % g.channels;
    Real sum = 0;
    for (int tap = 0; tap < taps; ++tap) {
      const auto around = tap_pixels(offset, place, tap, g);
      Real sample = 0;
      for (int k = 0; k < 4; ++k) {
        if (around.pixels[k] >= 0) sample += around.shares[k] * values[around.pixels[k] * width];
      }
      sum += mask[place * taps + tap] * sample;
    }
    out[n] = sum;
  }
}

/// `lanes` neighbouring threads, a power of two up to a warp, share the channels of a place.
template <class Real>
__global__ void dcnv3_backward_kernel(const Real* __restrict__ grad, const Real* __restrict__ x,
                                      const Real* __restrict__ offset,
                                      const Real* __restrict__ mask, Dcnv3Geometry g, int lanes,
                                      int64_t places, Real* __restrict__ grad_x,
                                      Real* __restrict__ grad_offset,
                                      Real* __restrict__ grad_mask) {
  const int taps = static_cast<int>(g.kernel_h * g.kernel_w);
  const int64_t width = g.groups * g.channels;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int lane = threadIdx.x % lanes;
  const int64_t mine = thread / lanes;
  // Threads behind the last place repeat it without writing: all of a warp add up together.
  const bool writes = mine < places;
  const int64_t place = writes ? mine : places - 1;
  const int64_t first = first_of(place, g);
  const Real* from = grad + place * g.channels;
  for (int tap = 0; tap < taps; ++tap) {
    const auto around = tap_pixels(offset, place, tap, g);
    const Real factor = mask[place * taps + tap];
    Real dot[4] = {0, 0, 0, 0};  // of the gradient and each pixel
    for (int k = 0; k < 4; ++k) {
      if (around.pixels[k] >= 0) {
        const int64_t at = first + around.pixels[k] * width;
        for (int64_t c = lane; c < g.channels; c += lanes) {
          dot[k] += from[c] * x[at + c];
          if (writes) atomicAdd(grad_x + at + c, factor * around.shares[k] * from[c]);
        }
      }
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        dot[k] += __shfl_down_sync(0xffffffffu, dot[k], distance, lanes);
      }
    }
    if (lane == 0 && writes) {
      const Real scale = factor * static_cast<Real>(g.offset_scale);
      const int64_t at = place * taps + tap;
      grad_mask[at] = around.mean(dot);
      grad_offset[2 * at] = scale * around.slope_right(dot);
      grad_offset[2 * at + 1] = scale * around.slope_down(dot);
    }
  }
}

}  // namespace

template <class Real>
void launch_dcnv3(const Real* x, const Real* offset, const Real* mask, const Dcnv3Geometry& g,
                  Real* out, cudaStream_t stream) {
  const int64_t count = g.images * g.out_height * g.out_width * g.groups * g.channels;
  if (count == 0) return;
  const int64_t needed = (count + kThreads - 1) / kThreads;
  // The most blocks in a row that any GPU takes.
  const int64_t blocks = needed < 0x7fffffff ? needed : 0x7fffffff;
  dcnv3_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(x, offset, mask, g, count,
                                                                       out);
}

template <class Real>
void launch_dcnv3_backward(const Real* grad, const Real* x, const Real* offset, const Real* mask,
                           const Dcnv3Geometry& g, Real* grad_x, Real* grad_offset, Real* grad_mask,
                           cudaStream_t stream) {
  const int64_t places = g.images * g.out_height * g.out_width * g.groups;
  if (places == 0) return;
  int lanes = 1;
  while (lanes < 32 && lanes < g.channels) lanes *= 2;
  const int64_t blocks = (places * lanes + kThreads - 1) / kThreads;
  dcnv3_backward_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      grad, x, offset, mask, g, lanes, places, grad_x, grad_offset, grad_mask);
}

template void launch_dcnv3(const float*, const float*, const float*, const Dcnv3Geometry&, float*,
                           cudaStream_t);
template void launch_dcnv3(const double*, const double*, const double*, const Dcnv3Geometry&,
                           double*, cudaStream_t);
template void launch_dcnv3_backward(const float*, const float*, const float*, const float*,
                                    const Dcnv3Geometry&, float*, float*, float*, cudaStream_t);
template void launch_dcnv3_backward(const double*, const double*, const double*, const double*,
                                    const Dcnv3Geometry&, double*, double*, double*, cudaStream_t);

const void* any_dcnv3_kernel() { return reinterpret_cast<const void*>(&dcnv3_kernel<float>); }

}  // namespace seg::cuda
