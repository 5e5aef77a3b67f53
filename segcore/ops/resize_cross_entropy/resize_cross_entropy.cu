// Two kernels: a thread for each pixel of the labels makes its loss from the few logits around it,
// and a thread for each place of the logits sums the gradients of the pixels that are mixed from
// it, by the maxima and sums that the first has noted. The composition holds logits and gradients
// at full size.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_launch.hpp"

namespace seg::cuda {
namespace {

constexpr int kTileWidth = 32, kTileHeight = 8;
constexpr int kWarps = kTileWidth * kTileHeight / 32;
constexpr int kSums = 4;
constexpr int kPlaceThreads = 128;
/// A thread reads the notes for so many classes; more would not fit into registers.
constexpr int kClassesOfPlace = 4;

/// Adds up the terms of a block's threads, in one order.
__device__ void write_block_sums(double (&terms)[kSums], double* out) {
  __shared__ double of_warps[kWarps][kSums];
  const int thread = threadIdx.y * kTileWidth + threadIdx.x;
  for (int k = 0; k < kSums; ++k) {
    for (int distance = 16; distance > 0; distance /= 2) {
      terms[k] += __shfl_down_sync(0xffffffffU, terms[k], distance);
    }
    if (thread % 32 == 0) of_warps[thread / 32][k] = terms[k];
  }
  __syncthreads();
  if (thread >= kSums) return;
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += of_warps[warp][thread];
  out[thread] = sum;
}

template <class Real, class Value>
__global__ void cross_entropy_kernel(CrossEntropyOperands<Real, Value> in, ResizedLogits g,
                                     CrossEntropyResults<Real> out) {
  const int x = blockIdx.x * kTileWidth + threadIdx.x;
  const int y = blockIdx.y * kTileHeight + threadIdx.y;
  double terms[kSums] = {0, 0, 0, 0};
  if (x < g.out_width && y < g.out_height) {
    const int64_t pixel = (static_cast<int64_t>(blockIdx.z) * g.out_height + y) * g.out_width + x;
    const auto found = cross_entropy_pixel(in, g, pixel);
    if (out.losses) out.losses[pixel] = found.loss;
    if (out.notes) out.notes[pixel] = found.note;
    terms[0] = static_cast<double>(found.note.weight) * static_cast<double>(found.loss);
    terms[1] = found.class_weight;
    terms[2] = found.right;
    terms[3] = found.valid;
  }
  if (!out.sums) return;
  const int64_t block =
      (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  write_block_sums(terms, out.sums + block * kSums);
}

/// Rounds once, from the sum.
__device__ void put(float value, float* to) { *to = value; }
__device__ void put(double value, double* to) { *to = value; }
__device__ void put(float value, __half* to) { *to = __float2half(value); }
__device__ void put(float value, __nv_bfloat16* to) { *to = __float2bfloat16(value); }

template <class Real, class Value>
__global__ void cross_entropy_gradient_kernel(const CrossEntropyNote<Real>* __restrict__ notes,
                                              const Value* __restrict__ logits, ResizedLogits g,
                                              Value* __restrict__ gradient) {
  const int64_t plane = static_cast<int64_t>(g.height) * g.width;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kPlaceThreads + threadIdx.x;
  if (place >= g.images * plane) return;
  const int64_t image = place / plane, at = place % plane;
  const int first = blockIdx.y * kClassesOfPlace;
  const int used = min(kClassesOfPlace, g.classes - first);
  const int64_t offset = (image * g.classes + first) * plane;
  Real sums[kClassesOfPlace];
  gradient_of_place(notes + image * g.out_height * g.out_width, logits + offset, g,
                    static_cast<int>(at / g.width), static_cast<int>(at % g.width), first, used,
                    sums);
  for (int k = 0; k < used; ++k) put(sums[k], gradient + offset + k * plane + at);
}

dim3 tiles(const ResizedLogits& g) {
  return dim3(static_cast<unsigned>((g.out_width + kTileWidth - 1) / kTileWidth),
              static_cast<unsigned>((g.out_height + kTileHeight - 1) / kTileHeight),
              static_cast<unsigned>(g.images));
}

}  // namespace

int64_t cross_entropy_blocks(const ResizedLogits& g) {
  const dim3 grid = tiles(g);
  return static_cast<int64_t>(grid.x) * grid.y * grid.z;
}

template <class Real, class Value>
void launch_cross_entropy(const CrossEntropyOperands<Real, Value>& in, const ResizedLogits& g,
                          const CrossEntropyResults<Real>& out, cudaStream_t stream) {
  cross_entropy_kernel<Real, Value>
      <<<tiles(g), dim3(kTileWidth, kTileHeight), 0, stream>>>(in, g, out);
}

template <class Real, class Value>
void launch_cross_entropy_gradient(const CrossEntropyNote<Real>* notes, const Value* logits,
                                   const ResizedLogits& g, Value* gradient, cudaStream_t stream) {
  const int64_t places = static_cast<int64_t>(g.images) * g.height * g.width;
  if (places == 0) return;
  const dim3 grid(static_cast<unsigned>((places + kPlaceThreads - 1) / kPlaceThreads),
                  static_cast<unsigned>((g.classes + kClassesOfPlace - 1) / kClassesOfPlace));
  cross_entropy_gradient_kernel<Real, Value>
      <<<grid, kPlaceThreads, 0, stream>>>(notes, logits, g, gradient);
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
