/// Runs Python, if one with PyTorch is found, to check files against their original readers.
#pragma once
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/temp_dir.hpp"

namespace seg::test {

/// $SEGCORE_PYTHON, or the one beside LibTorch in $SEGCORE_DEPS or ~/.cache/segcore/deps; "" where
/// there is none.
inline std::string python_with_torch() {
  std::vector<std::string> places;
  if (const char* python = std::getenv("SEGCORE_PYTHON")) places.emplace_back(python);
  const std::string inside = "/torch-2.11.0/bin/python";
  if (const char* deps = std::getenv("SEGCORE_DEPS")) places.push_back(deps + inside);
  if (const char* home = std::getenv("HOME")) {
    places.push_back(home + ("/.cache/segcore/deps" + inside));
  }
  for (const std::string& place : places) {
    if (std::filesystem::exists(place)) return place;
  }
  return {};
}

/// What a command printed on both streams, and its exit status.
struct CommandResult {
  int status = -1;
  std::string output;
};

inline CommandResult run_command(const std::string& command) {
  CommandResult out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return out;
  std::array<char, 4096> buffer{};
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.output.append(buffer.data(), n);
  }
  const int status = pclose(pipe);
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

/// Runs a program text in `python`.
inline CommandResult run_python(const std::string& python, const std::string& program,
                                const std::string& arguments) {
  const TempDir dir;
  const std::string script = dir.write("program.py", program);
  return run_command(python + " " + script + " " + arguments);
}

}  // namespace seg::test
