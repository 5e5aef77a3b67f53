// Counts pixels by class: each block counts in shared memory and adds to the result once.
#include <algorithm>

#include "segcore/ops/class_histogram/class_histogram_launch.hpp"

namespace seg::cuda {
namespace {

/// Adds one for each thread of the warp. Neighbours mostly have the same class, so the threads of a
/// class share one addition.
__device__ void count_together(unsigned* counts, int place) {
  const unsigned alike = __match_any_sync(0xffffffffU, place);
  const bool first = (threadIdx.x & 31) == __ffs(static_cast<int>(alike)) - 1;
  if (first && place >= 0) atomicAdd(counts + place, static_cast<unsigned>(__popc(alike)));
}

template <class Label>
__global__ void class_histogram_kernel(const int64_t* __restrict__ prediction,
                                       const Label* __restrict__ labels, int64_t n, int64_t classes,
                                       int64_t ignore_index,
                                       unsigned long long* __restrict__ counts) {
  extern __shared__ unsigned own[];
  const int slots = static_cast<int>(classes) + 1;
  for (int i = threadIdx.x; i < 3 * slots; i += blockDim.x) own[i] = 0;
  __syncthreads();
  const auto place = [&](int64_t v) {
    return static_cast<int>(v >= 0 && v < classes ? v : classes);
  };
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  // All threads of a warp make the same number of rounds, since they count together.
  for (int64_t begin = static_cast<int64_t>(blockIdx.x) * blockDim.x; begin < n; begin += step) {
    const int64_t i = begin + threadIdx.x;
    int both = -1, predicted = -1, labelled = -1;
    if (i < n) {
      const auto want = static_cast<int64_t>(labels[i]);
      if (want != ignore_index) {
        const int64_t is = prediction[i];
        predicted = slots + place(is);
        labelled = 2 * slots + place(want);
        if (is == want) both = place(is);
      }
    }
    count_together(own, both);
    count_together(own, predicted);
    count_together(own, labelled);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 3 * slots; i += blockDim.x) {
    if (own[i] != 0) atomicAdd(counts + i, static_cast<unsigned long long>(own[i]));
  }
}

}  // namespace

template <class Label>
void launch_class_histogram(const int64_t* prediction, const Label* labels, int64_t n,
                            int64_t classes, int64_t ignore_index, int64_t* counts,
                            cudaStream_t stream) {
  if (n == 0) return;
  constexpr int kThreads = 256;
  // Enough blocks for any GPU of today; more would only add up more small histograms.
  const int64_t blocks = std::min<int64_t>((n + kThreads - 1) / kThreads, 512);
  const size_t shared = 3 * static_cast<size_t>(classes + 1) * sizeof(unsigned);
  class_histogram_kernel<<<static_cast<unsigned>(blocks), kThreads, shared, stream>>>(
      prediction, labels, n, classes, ignore_index, reinterpret_cast<unsigned long long*>(counts));
}

template void launch_class_histogram(const int64_t*, const uint8_t*, int64_t, int64_t, int64_t,
                                     int64_t*, cudaStream_t);
template void launch_class_histogram(const int64_t*, const int64_t*, int64_t, int64_t, int64_t,
                                     int64_t*, cudaStream_t);

const void* any_class_histogram_kernel() {
  return reinterpret_cast<const void*>(&class_histogram_kernel<int64_t>);
}

}  // namespace seg::cuda
