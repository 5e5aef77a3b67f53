#include "segcore/data/text_list.hpp"

#include <algorithm>
#include <sstream>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

std::vector<std::string> read_text_list(const std::string& path) {
  const auto bytes = read_file_bytes(path);
  if (std::find(bytes.begin(), bytes.end(), 0) != bytes.end()) {
    throw DataError(path + ": is no text; a name a line was expected");
  }
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    const auto begin = line.find_first_not_of(" \t\r\f\v");
    if (begin == std::string::npos) continue;
    const auto end = line.find_last_not_of(" \t\r\f\v");
    lines.push_back(line.substr(begin, end - begin + 1));
  }
  return lines;
}

}  // namespace seg
