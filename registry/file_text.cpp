#include "registry/file_text.hpp"

#include <fstream>
#include <sstream>

namespace seg {

std::optional<std::string> file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  // Unlike iterators over the buffer, which throw where a read fails.
  if (in.peek() == std::ifstream::traits_type::eof()) {
    if (in.bad()) return std::nullopt;
    return std::string();
  }
  std::ostringstream text;
  if (!(text << in.rdbuf()) || in.bad()) return std::nullopt;
  return text.str();
}

}  // namespace seg
