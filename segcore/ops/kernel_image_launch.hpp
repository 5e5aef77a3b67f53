/// Whether the kernels of this library run on a GPU. One that is older than all that they were
/// compiled for takes the compositions instead.
#pragma once
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "registry/log.hpp"

namespace seg::cuda {

/// \param kernel  of this library.
/// \return whether the current GPU can run it; if not, says so once.
inline bool has_kernel_image(const void* kernel) {
  // The driver's answers for code of other GPUs, and for code to be translated that it cannot.
  constexpr std::array kMissing{cudaErrorNoKernelImageForDevice, cudaErrorInvalidDeviceFunction,
                                cudaErrorInvalidKernelImage,     cudaErrorInvalidPtx,
                                cudaErrorUnsupportedPtxVersion,  cudaErrorJitCompilerNotFound,
                                cudaErrorJitCompilationDisabled};
  cudaFuncAttributes attributes{};
  const cudaError_t answer = cudaFuncGetAttributes(&attributes, kernel);
  if (answer == cudaSuccess) return true;
  // Other errors are left for the launch to report.
  if (std::find(kMissing.begin(), kMissing.end(), answer) == kMissing.end()) return true;
  cudaGetLastError();  // LibTorch would take it for that of its next kernel
  static std::once_flag once;
  std::call_once(once, [&] {
    log::warn("segcore's CUDA kernels do not run on this GPU (", cudaGetErrorString(answer),
              "): LibTorch's operators are used instead, which is slower. Build segcore with "
              "-DSEGCORE_CUDA_ARCHITECTURES for it");
  });
  return false;
}

}  // namespace seg::cuda
