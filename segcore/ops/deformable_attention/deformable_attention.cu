// Sums over all levels and points without the samples in between: the composition writes
// [N * heads, channels, Q, points] of each level.
#include "segcore/ops/deformable_attention/deformable_attention_launch.hpp"

namespace seg::cuda {
namespace {

constexpr int kThreads = 256;

/// A thread for each value of the result, so that neighbours read neighbouring channels.
template <class Real>
__global__ void deformable_attention_kernel(const Real* __restrict__ value,
                                            const Real* __restrict__ locations,
                                            const Real* __restrict__ weights,
                                            DeformableAttentionGeometry g, int64_t count,
                                            Real* __restrict__ out) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < count;
       n += step) {
    out[n] = attended_value(value, locations, weights, g, n);
  }
}

/// Neighbouring threads of a warp, a power of two.
template <class Real>
struct WarpThreads {
  int index, count;
  bool writes;
  __device__ Real sum(Real x) const {
    for (int distance = count / 2; distance > 0; distance /= 2) {
      x += __shfl_down_sync(0xffffffffu, x, distance, count);
    }
    return x;
  }
  __device__ void add(Real* to, Real x) const { atomicAdd(to, x); }
};

template <class Real>
__global__ void deformable_attention_backward_kernel(AttentionOperands<Real> in,
                                                     DeformableAttentionGeometry g, int lanes,
                                                     int64_t places, AttentionGradients<Real> out) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t place = thread / lanes;
  // Threads behind the last place repeat it without writing: all of a warp add up together.
  const WarpThreads<Real> threads{static_cast<int>(threadIdx.x) % lanes, lanes, place < places};
  sample_gradients(in, g, threads.writes ? place : places - 1, threads, out);
}

}  // namespace

template <class Real>
void launch_deformable_attention(const Real* value, const Real* locations, const Real* weights,
                                 const DeformableAttentionGeometry& g, Real* out,
                                 cudaStream_t stream) {
  const int64_t count = g.images * g.queries * g.heads * g.channels;
  if (count == 0) return;
  const int64_t needed = (count + kThreads - 1) / kThreads;
  // The most blocks in a row that any GPU takes.
  const int64_t blocks = needed < 0x7fffffff ? needed : 0x7fffffff;
  deformable_attention_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      value, locations, weights, g, count, out);
}

template <class Real>
void launch_deformable_attention_backward(const AttentionOperands<Real>& in,
                                          const DeformableAttentionGeometry& g,
                                          const AttentionGradients<Real>& out,
                                          cudaStream_t stream) {
  const int64_t places = g.images * g.queries * g.heads;
  if (places == 0) return;
  int lanes = 1;
  while (lanes < 32 && lanes < g.channels) lanes *= 2;
  const int64_t blocks = (places * lanes + kThreads - 1) / kThreads;
  deformable_attention_backward_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      in, g, lanes, places, out);
}

template void launch_deformable_attention(const float*, const float*, const float*,
                                          const DeformableAttentionGeometry&, float*, cudaStream_t);
template void launch_deformable_attention(const double*, const double*, const double*,
                                          const DeformableAttentionGeometry&, double*,
                                          cudaStream_t);
template void launch_deformable_attention_backward(const AttentionOperands<float>&,
                                                   const DeformableAttentionGeometry&,
                                                   const AttentionGradients<float>&, cudaStream_t);
template void launch_deformable_attention_backward(const AttentionOperands<double>&,
                                                   const DeformableAttentionGeometry&,
                                                   const AttentionGradients<double>&, cudaStream_t);

const void* any_deformable_attention_kernel() {
  return reinterpret_cast<const void*>(&deformable_attention_kernel<float>);
}

}  // namespace seg::cuda
