// The door of the CUDA module, which runners/start/device.cpp opens after LibTorch's CUDA part.
#include "runners/cuda/nccl.hpp"
#include "segcore/ops/cuda/kernels.hpp"
#include "segcore/ops/cuda_kernels.hpp"

extern "C" void segcore_cuda_module() {
  seg::set_cuda_kernels(&seg::compiled_cuda_kernels());
  seg::set_nccl_factory(seg::compiled_nccl_factory());
}
