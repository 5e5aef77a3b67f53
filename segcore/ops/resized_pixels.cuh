/// What kernels share that compare small logits with labels at full size: a thread for each pixel
/// of the labels, sums of a block's threads, and threads for each place of the logits.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "segcore/ops/resized_pixels.hpp"

namespace seg::cuda {

inline constexpr int kTileThreads = kTileWidth * kTileHeight;
inline constexpr int kPlaceThreads = 128;
/// A thread reads the notes for so many classes; more would not fit into registers.
inline constexpr int kClassesOfPlace = 4;

inline dim3 tile_threads() { return dim3(kTileWidth, kTileHeight); }
inline dim3 tiles(const ResizedLogits& g) {
  return dim3(static_cast<unsigned>(tiles_of(g.out_width, kTileWidth)),
              static_cast<unsigned>(tiles_of(g.out_height, kTileHeight)),
              static_cast<unsigned>(g.images));
}
/// The number of this thread's pixel in [N, H, W]; -1: it has none.
inline __device__ int64_t pixel_of_thread(const ResizedLogits& g) {
  const int x = blockIdx.x * kTileWidth + threadIdx.x, y = blockIdx.y * kTileHeight + threadIdx.y;
  if (x >= g.out_width || y >= g.out_height) return -1;
  return (static_cast<int64_t>(blockIdx.z) * g.out_height + y) * g.out_width + x;
}
inline __device__ int64_t number_of_block() {
  return (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
}

/// Adds up the terms of a block's threads, in one order.
/// \param out  [kSums]
template <int kThreads, int kSums>
__device__ void write_block_sums(double (&terms)[kSums], double* out) {
  constexpr int kWarps = kThreads / 32;
  __shared__ double of_warps[kWarps][kSums];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
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

/// Rounds once, from the sum.
inline __device__ void put(float value, float* to) { *to = value; }
inline __device__ void put(double value, double* to) { *to = value; }
inline __device__ void put(float value, __half* to) { *to = __float2half(value); }
inline __device__ void put(float value, __nv_bfloat16* to) { *to = __float2bfloat16(value); }

/// The threads of a place are neighbours in a warp.
template <class Real, class Value, class Pixels>
__global__ void place_gradient_kernel(Pixels pixels, const Value* __restrict__ logits,
                                      ResizedLogits g, int lanes, Value* __restrict__ gradient) {
  const int64_t plane = static_cast<int64_t>(g.height) * g.width;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kPlaceThreads + threadIdx.x;
  const int64_t number = thread / lanes, image = number / plane, at = number % plane;
  const int lane = static_cast<int>(thread % lanes), first = blockIdx.y * kClassesOfPlace;
  const LogitPlace place{static_cast<int>(image), static_cast<int>(at / g.width),
                         static_cast<int>(at % g.width), first,
                         min(kClassesOfPlace, g.classes - first)};
  Real sums[kClassesOfPlace] = {};
  const bool inside = image < g.images;
  if (inside) gradient_of_place(pixels, logits, g, place, lane, lanes, sums);
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    for (Real& sum : sums) sum += __shfl_down_sync(0xffffffffU, sum, distance, lanes);
  }
  if (!inside || lane > 0) return;
  Value* to = gradient + (image * g.classes + first) * plane + at;
  for (int k = 0; k < place.classes; ++k) put(sums[k], to + k * plane);
}

/// \param pixels    see gradient_of_place.
/// \param gradient  [N, C, h, w]
template <class Real, class Value, class Pixels>
void launch_place_gradients(const Pixels& pixels, const Value* logits, const ResizedLogits& g,
                            Value* gradient, cudaStream_t stream) {
  const int lanes = lanes_of_place(g);
  const int64_t threads = static_cast<int64_t>(g.images) * g.height * g.width * lanes;
  if (threads == 0) return;
  const dim3 grid(static_cast<unsigned>((threads + kPlaceThreads - 1) / kPlaceThreads),
                  static_cast<unsigned>((g.classes + kClassesOfPlace - 1) / kClassesOfPlace));
  place_gradient_kernel<Real, Value>
      <<<grid, kPlaceThreads, 0, stream>>>(pixels, logits, g, lanes, gradient);
}

}  // namespace seg::cuda
