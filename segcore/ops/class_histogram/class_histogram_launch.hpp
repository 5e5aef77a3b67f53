/// The launch of the kernel as a plain function of pointers: files for nvcc do not see LibTorch,
/// whose headers cost it half a minute each.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace seg::cuda {

/// The most classes whose counts fit into the shared memory of a block.
constexpr int64_t kMostCountedClasses = 4000;

/// Adds the counts of `n` pixels to `counts`, [3, classes + 1].
template <class Label>
void launch_class_histogram(const int64_t* prediction, const Label* labels, int64_t n,
                            int64_t classes, int64_t ignore_index, int64_t* counts,
                            cudaStream_t stream);

/// For has_kernel_image.
const void* any_class_histogram_kernel();

}  // namespace seg::cuda
