/// Where the tests find the project's files and programs.
#pragma once
#include <string>

namespace seg {

/// source_path("tests/data/x.json"): a file of the checkout, or beside it with "../".
std::string source_path(const std::string& below);
/// program_path("train"): an executable of this build.
std::string program_path(const std::string& name);

}  // namespace seg
