/// CUDA graphs of the CUDA module.
#pragma once
#include "runners/train/device_graph.hpp"

namespace seg {

std::unique_ptr<DeviceGraph> make_cuda_graph(c10::Device device);

}  // namespace seg
