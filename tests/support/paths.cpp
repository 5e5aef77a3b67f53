#include "tests/support/paths.hpp"

namespace seg {

// The only file compiled with absolute paths, so that a compiler cache serves every clone.
std::string source_path(const std::string& below) { return SEG_SOURCE_DIR "/" + below; }
std::string program_path(const std::string& name) { return SEG_BINARY_DIR "/bin/" + name; }

}  // namespace seg
