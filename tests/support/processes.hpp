/// Processes of other programs.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "registry/file_text.hpp"

namespace seg::test {

/// Those whose command line has these words, such as the folder of a test.
inline std::vector<pid_t> processes_naming(const std::string& words) {
  std::vector<pid_t> out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    // One that ends meanwhile cannot be read.
    const std::string line = seg::file_text((entry.path() / "cmdline").string()).value_or("");
    if (line.find(words) != std::string::npos) out.push_back(std::stoi(name));
  }
  return out;
}

}  // namespace seg::test
