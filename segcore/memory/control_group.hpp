/// Limits of memory that the system sets for groups of processes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace seg {

/// Bytes. None where no group of this process, or around one, has a limit.
struct GroupMemory {
  std::optional<int64_t> limit;  ///< the smallest
  std::optional<int64_t> free;   ///< the least that any has left; cached pages of files that were
                                 ///< not read lately are free
};

/// Control groups of version 2 and 1 (cgroups(7)): this process's group and all around it, as far
/// as they can be seen.
/// \param mount   where the system shows them.
/// \param groups  which of them are this process's.
GroupMemory group_memory(const std::string& mount = "/sys/fs/cgroup",
                         const std::string& groups = "/proc/self/cgroup");

}  // namespace seg
