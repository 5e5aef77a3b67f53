#include "segcore/memory/control_group.hpp"

#include <algorithm>
#include <fstream>

namespace seg {
namespace {

/// A number in a file; none for "max" and where there is no file.
std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

/// The number after a name in a file of lines "name 123"; 0 where there is none.
int64_t entry_in(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  int64_t value = 0;
  for (std::string word; file >> word >> value;) {
    if (word == name) return value;
  }
  return 0;
}

/// Names of a version's files.
struct GroupFiles {
  const char *limit, *used, *inactive;
};
constexpr GroupFiles kVersion2{"/memory.max", "/memory.current", "inactive_file"};
constexpr GroupFiles kVersion1{"/memory.limit_in_bytes", "/memory.usage_in_bytes",
                               "total_inactive_file"};

void take_smaller(std::optional<int64_t>& least, int64_t value) {
  least = least ? std::min(*least, value) : value;
}

/// A group and those around it. A container may see its own group as the root, under the path that
/// it has outside.
void add_groups(const std::string& root, std::string path, const GroupFiles& files,
                GroupMemory& memory) {
  while (true) {
    const std::string folder = root + path;
    if (const auto limit = number_in(folder + files.limit)) {
      const int64_t used = number_in(folder + files.used).value_or(0) -
                           entry_in(folder + "/memory.stat", files.inactive);
      take_smaller(memory.limit, *limit);
      take_smaller(memory.free, std::max<int64_t>(*limit - std::max<int64_t>(used, 0), 0));
    }
    if (path.empty()) return;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

GroupMemory group_memory(const std::string& mount, const std::string& groups) {
  GroupMemory out;
  std::ifstream file(groups);
  // number:controllers:path
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) {
      add_groups(mount, path, kVersion2, out);
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      add_groups(mount + "/memory", path, kVersion1, out);
    }
  }
  return out;
}

}  // namespace seg
