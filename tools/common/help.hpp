/// The text of --help: wrapped at the width of the terminal, with exit codes and an example.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace seg {

/// What the --help of a program says besides its options.
struct HelpFacts {
  std::string example;          ///< a command that works in a fresh clone as it stands
  std::vector<int> exit_codes;  ///< besides 0, 1, 2 and 70, which all programs have
};

/// Gives a program its --help. Call it in the setup of `run_main`.
void add_help(CLI::App& app, const HelpFacts& facts);

/// The help as lines of at most `width` columns.
std::string help_text(const CLI::App& app, const HelpFacts& facts, int width);

}  // namespace seg
