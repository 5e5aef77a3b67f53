#include "segcore/ops/cuda_kernels.hpp"

namespace seg {
namespace {

// Like a registry: written while a library is loaded, only read after that.
const CudaKernels* loaded_cuda_kernels = nullptr;

}  // namespace

const CudaKernels* cuda_kernels_for(const at::Tensor& tensor) {
  return tensor.is_cuda() ? loaded_cuda_kernels : nullptr;
}

void set_cuda_kernels(const CudaKernels* kernels) { loaded_cuda_kernels = kernels; }

}  // namespace seg
