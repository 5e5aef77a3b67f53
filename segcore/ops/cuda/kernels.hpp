/// The kernels of the CUDA module.
#pragma once

namespace seg {

struct CudaKernels;

/// All of them; lives as long as the library.
const CudaKernels& compiled_cuda_kernels();

}  // namespace seg
