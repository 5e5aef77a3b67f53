/// Memory that kernels of CPUs work in.
#pragma once
#include <c10/core/CPUAllocator.h>

#include <cstdint>

namespace seg {

/// Floats whose values are not set, from where tensors get theirs.
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : memory_(c10::GetCPUAllocator()->allocate(static_cast<size_t>(count) * sizeof(float))) {}
  float* get() const { return static_cast<float*>(memory_.get()); }

 private:
  c10::DataPtr memory_;
};

}  // namespace seg
