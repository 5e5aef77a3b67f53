#include "tests/support/paths.hpp"

#include <cstdlib>

namespace seg {
namespace {

/// Packaged tests run elsewhere than in the folder that they were compiled in.
std::string place(const char* variable, const char* compiled) {
  const char* given = std::getenv(variable);
  return given ? given : compiled;
}

}  // namespace

// The only file compiled with absolute paths, so that a compiler cache serves every clone.
std::string source_path(const std::string& below) {
  return place("SEGCORE_SOURCE_DIR", SEG_SOURCE_DIR) + "/" + below;
}
std::string program_path(const std::string& name) {
  return place("SEGCORE_BINARY_DIR", SEG_BINARY_DIR) + "/bin/" + name;
}

}  // namespace seg
