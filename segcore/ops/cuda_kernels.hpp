/// Kernels for GPUs that stand in for compositions of LibTorch's operators. They are in a library
/// that is loaded where a GPU is used, so that the programs need no CUDA to start.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seg {

struct LogitsGeometry;

/// Each does what the function of its name does, for tensors on a GPU.
struct CudaKernels {
  at::Tensor (*resize_argmax)(const at::Tensor& logits, const LogitsGeometry& geometry,
                              double threshold);
  at::Tensor (*class_histogram)(const at::Tensor& prediction, const at::Tensor& labels,
                                int64_t classes, int64_t ignore_index);
};

/// The kernels that serve a tensor: nullptr on a CPU, and where the library is not loaded.
const CudaKernels* cuda_kernels_for(const at::Tensor& tensor);

/// Called once by the loaded library, before any work for a GPU begins.
void set_cuda_kernels(const CudaKernels* kernels);

}  // namespace seg
