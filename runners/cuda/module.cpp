// The entry of the CUDA module, which runners/start/device.cpp calls once it has loaded LibTorch's
// CUDA part and this library. Kernels need no entry: they register themselves with LibTorch's
// dispatcher while the library is loaded, and it is never unloaded.
#include "runners/cuda/graph.hpp"
#include "runners/cuda/nccl.hpp"

extern "C" void segcore_cuda_module() {
  seg::set_nccl_factory(seg::compiled_nccl_factory());
  seg::set_device_graph_factory(seg::make_cuda_graph);
}
