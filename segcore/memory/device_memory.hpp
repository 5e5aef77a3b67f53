/// How much memory of a device is in use and free.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>

namespace seg {

/// Bytes. Of a GPU what this process's tensors hold; of a CPU what the whole process does, without
/// the blocks that the CachingAllocator keeps.
struct MemoryUse {
  int64_t used = 0;
  int64_t peak = 0;  ///< since forget_memory_peak, or since the process began; of a CPU without an
                     ///< installed CachingAllocator always the latter
};
MemoryUse memory_use(c10::Device device);
void forget_memory_peak(c10::Device device);
/// Forgets the peak of a GPU, and returns the largest since the last call of this, in bytes:
/// whatever was forgotten in between.
int64_t take_memory_peak(c10::Device gpu);

/// Bytes that tensors can take besides: of a CPU what is available under the system's and the
/// control group's limits.
int64_t free_memory(c10::Device device);

/// Bytes of a device; of a CPU under the limit of its control group.
int64_t total_memory(c10::Device device);

}  // namespace seg
