#include "segcore/memory/device_memory.hpp"

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include "segcore/memory/caching_allocator.hpp"
#include "segcore/memory/control_group.hpp"

namespace seg {
namespace {

/// The value of "name: 123 kB" in a file of /proc, in bytes; 0 where there is none.
int64_t kilobytes_entry(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

MemoryUse process_memory() {
  const int64_t resident = kilobytes_entry("/proc/self/status", "VmRSS");
  const CachingAllocator* const allocator = installed_caching_allocator();
  if (!allocator) return {resident, kilobytes_entry("/proc/self/status", "VmHWM")};
  const auto usage = allocator->usage();
  const auto used = std::max<int64_t>(resident - static_cast<int64_t>(usage.kept), 0);
  return {used, used + static_cast<int64_t>(usage.most_used - usage.used)};
}

c10::CachingDeviceAllocator::DeviceStats device_stats(c10::Device device) {
  return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
}

/// The largest peak of this process's GPU that was forgotten since it was last taken.
std::atomic<int64_t> forgotten_peak = 0;

constexpr auto kAllPools = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

}  // namespace

MemoryUse memory_use(c10::Device device) {
  if (device.is_cpu()) return process_memory();
  const auto bytes = device_stats(device).allocated_bytes[kAllPools];
  return {bytes.current, bytes.peak};
}

void forget_memory_peak(c10::Device device) {
  if (!device.is_cpu()) {
    forgotten_peak = std::max<int64_t>(forgotten_peak, memory_use(device).peak);
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  } else if (auto* const allocator = installed_caching_allocator()) {
    allocator->forget_peak();
  }
}

int64_t take_memory_peak(c10::Device gpu) {
  forget_memory_peak(gpu);
  return forgotten_peak.exchange(0);
}

int64_t free_memory(c10::Device device) {
  if (!device.is_cpu()) {
    const auto stats = device_stats(device);
    const auto [free, total] =
        c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
    return static_cast<int64_t>(free) + stats.reserved_bytes[kAllPools].current -
           stats.allocated_bytes[kAllPools].current;
  }
  const int64_t available = kilobytes_entry("/proc/meminfo", "MemAvailable");
  return std::min(available, group_memory().free.value_or(available));
}

int64_t total_memory(c10::Device device) {
  if (!device.is_cpu()) {
    return static_cast<int64_t>(
        c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second);
  }
  const int64_t all = kilobytes_entry("/proc/meminfo", "MemTotal");
  return std::min(all, group_memory().limit.value_or(all));
}

}  // namespace seg
