// Bilinear resizing and argmax in one pass: each thread computes one pixel of the result from the
// few small logits around it. The composition writes and reads the logits at full size.
#include "segcore/ops/bilinear_side.hpp"
#include "segcore/ops/resize_argmax/resize_argmax_launch.hpp"

namespace seg::cuda {
namespace {

/// A side that keeps its size is not mixed: what is not a number stays where it is.
template <class Real>
__device__ BilinearTap<Real> between(int i, int in, int out, bool align_corners) {
  if (in == out) return {i, i, Real(0)};
  return BilinearSide<Real>(in, out, align_corners).tap(i);
}

/// Where one position of the result lies among the small logits. The two resizings stay separate,
/// since the result of the first is cropped: the outer one interpolates two positions of the input,
/// each of which interpolates two of the small logits.
template <class Real>
struct Taps {
  BilinearTap<Real> inner[2];
  Real share;
};

template <class Real>
__device__ Taps<Real> taps(int i, const ResizeAxis& axis, bool align_corners) {
  const BilinearTap<Real> outer = between<Real>(i, axis.unpadded, axis.original, align_corners);
  const int low = axis.flip ? axis.unpadded - 1 - outer.low : outer.low;
  const int high = axis.flip ? axis.unpadded - 1 - outer.high : outer.high;
  return {{between<Real>(low, axis.small, axis.input, align_corners),
           between<Real>(high, axis.small, axis.input, align_corners)},
          outer.share};
}

template <class Real>
__device__ Real mix(Real a, Real b, Real share) {
  return share < Real(0.5) ? a + share * (b - a) : b - (b - a) * (1 - share);
}

template <class Real>
__device__ Real along_row(const Real* row, const BilinearTap<Real>& x) {
  return mix(row[x.low], row[x.high], x.share);
}

/// \tparam kOuter  the second resizing has an effect; else only `inner[0]` counts.
template <bool kOuter, class Real>
__device__ Real along_row(const Real* row, const Taps<Real>& x) {
  const Real first = along_row(row, x.inner[0]);
  if constexpr (!kOuter) return first;
  return mix(first, along_row(row, x.inner[1]), x.share);
}

template <bool kOuter, class Real>
__device__ Real between_rows(const Real* plane, int width, const BilinearTap<Real>& y,
                             const Taps<Real>& x) {
  const Real low = along_row<kOuter>(plane + static_cast<int64_t>(y.low) * width, x);
  const Real high = along_row<kOuter>(plane + static_cast<int64_t>(y.high) * width, x);
  return mix(low, high, y.share);
}

template <bool kOuter, class Real>
__device__ Real resized_value(const Real* plane, int width, const Taps<Real>& y,
                              const Taps<Real>& x) {
  const Real first = between_rows<kOuter>(plane, width, y.inner[0], x);
  if constexpr (!kOuter) return first;
  return mix(first, between_rows<kOuter>(plane, width, y.inner[1], x), y.share);
}

template <bool kOuter, class Real>
__global__ void resize_argmax_kernel(const Real* __restrict__ logits, int channels, ResizeAxis rows,
                                     ResizeAxis columns, bool align_corners, Real threshold,
                                     int64_t* __restrict__ out) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= columns.original || y >= rows.original) return;
  const Taps<Real> from_x = taps<Real>(x, columns, align_corners);
  const Taps<Real> from_y = taps<Real>(y, rows, align_corners);
  const int64_t plane = static_cast<int64_t>(rows.small) * columns.small;
  Real best = resized_value<kOuter>(logits, columns.small, from_y, from_x);
  int64_t which = 0;
  if (channels == 1) {
    which = 1 / (1 + exp(-best)) > threshold;
  } else {
    for (int c = 1; c < channels; ++c) {
      const Real value = resized_value<kOuter>(logits + c * plane, columns.small, from_y, from_x);
      // As argmax: the first of equals, and NaN before all numbers.
      if (value > best || (isnan(value) && !isnan(best))) {
        best = value;
        which = c;
      }
    }
  }
  out[static_cast<int64_t>(y) * columns.original + x] = which;
}

/// One resizing instead of two, where one of them is the identity and nothing is cropped or flipped
/// between them.
ResizeAxis shortened(ResizeAxis axis) {
  if (axis.unpadded == axis.original || axis.small != axis.input) return axis;
  if (axis.flip || axis.input != axis.unpadded) return axis;
  axis.input = axis.unpadded = axis.original;
  return axis;
}

}  // namespace

template <class Real>
void launch_resize_argmax(const Real* logits, int channels, const ResizeAxis& rows,
                          const ResizeAxis& columns, bool align_corners, double threshold,
                          int64_t* out, cudaStream_t stream) {
  const ResizeAxis y = shortened(rows), x = shortened(columns);
  const dim3 block(32, 8);
  const dim3 grid((x.original + block.x - 1) / block.x, (y.original + block.y - 1) / block.y);
  const bool outer = x.unpadded != x.original || y.unpadded != y.original;
  const auto kernel = outer ? resize_argmax_kernel<true, Real> : resize_argmax_kernel<false, Real>;
  kernel<<<grid, block, 0, stream>>>(logits, channels, y, x, align_corners,
                                     static_cast<Real>(threshold), out);
}

template void launch_resize_argmax(const float*, int, const ResizeAxis&, const ResizeAxis&, bool,
                                   double, int64_t*, cudaStream_t);
template void launch_resize_argmax(const double*, int, const ResizeAxis&, const ResizeAxis&, bool,
                                   double, int64_t*, cudaStream_t);

const void* any_resize_argmax_kernel() {
  return reinterpret_cast<const void*>(&resize_argmax_kernel<false, float>);
}

}  // namespace seg::cuda
