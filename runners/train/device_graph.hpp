/// Work of a device that is recorded once and then started as a whole.
#pragma once
#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace seg {

/// A record of kernels, with the memory that they take.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Runs `work` as it will be recorded, on a queue of its own, in the order of what is queued
  /// before and after.
  virtual void rehearse(const std::function<void()>& work) = 0;
  /// Records the kernels that `work` starts, in place of those recorded before. They are not run;
  /// tensors that it makes hold nothing until the first `replay`, and new values after each.
  /// \throws c10::Error where something cannot be recorded, such as waiting for the device; or what
  ///         `work` throws. Nothing is recorded then.
  virtual void record(const std::function<void()>& work) = 0;
  /// Queues what was recorded.
  virtual void replay() = 0;
};

using DeviceGraphFactory = std::unique_ptr<DeviceGraph> (*)(c10::Device device);

/// Null where the device has no graphs, or the CUDA module is not loaded.
std::unique_ptr<DeviceGraph> make_device_graph(c10::Device device);

/// Called once by the loaded CUDA module.
void set_device_graph_factory(DeviceGraphFactory factory);

}  // namespace seg
