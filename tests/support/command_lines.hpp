/// Command lines as a user types them in a folder.
#pragma once
#include <string>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {

/// Runs a line of a shell in the folder; words that begin with "@" are programs.
inline CommandResult run_shell_line(const TempDir& folder, std::string line) {
  for (size_t at = 0; (at = line.find('@', at)) != std::string::npos;) {
    const size_t end = line.find_first_of(" ", at);
    line.replace(at, end - at, program_path(line.substr(at + 1, end - at - 1)));
  }
  return run_command("cd " + folder.path().string() + " && " + line);
}

/// Runs a program in the folder, with one thread: "train tiny.yaml --work-dir w".
inline CommandResult run_program_line(const TempDir& folder, const std::string& line) {
  return run_shell_line(folder, "OMP_NUM_THREADS=1 @" + line);
}

}  // namespace seg::test
