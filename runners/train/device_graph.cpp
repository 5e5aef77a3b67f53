#include "runners/train/device_graph.hpp"

namespace seg {
namespace {

DeviceGraphFactory cuda_graph_factory = nullptr;

}  // namespace

std::unique_ptr<DeviceGraph> make_device_graph(c10::Device device) {
  return device.is_cuda() && cuda_graph_factory ? cuda_graph_factory(device) : nullptr;
}

void set_device_graph_factory(DeviceGraphFactory factory) { cuda_graph_factory = factory; }

}  // namespace seg
