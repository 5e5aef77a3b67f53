/// Marks arithmetic that kernels of all devices share.
#pragma once

// Compiled for the machine of the kernel that calls it.
#if defined(__CUDACC__)
#define SEG_KERNEL_PART __device__ __forceinline__
#else
#define SEG_KERNEL_PART __attribute__((always_inline)) inline
#endif
