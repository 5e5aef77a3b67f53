/// Processes of other programs.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace seg::test {

/// Those whose command line has these words, such as the folder of a test.
inline std::vector<pid_t> processes_naming(const std::string& words) {
  std::vector<pid_t> out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream in(entry.path() / "cmdline", std::ios::binary);
    const std::string line{std::istreambuf_iterator<char>(in), {}};
    if (line.find(words) != std::string::npos) out.push_back(std::stoi(name));
  }
  return out;
}

}  // namespace seg::test
