/// Lists of names in text files: samples, classes.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace seg {

struct TextLine {
  std::string text;   ///< without the blanks around it; not empty
  size_t number = 0;  ///< from 1
};

/// The lines of a text file in UTF-8, with or without a byte order mark, ended as on any system.
/// \throws DataError naming the path, where the file cannot be read or is no such text; the first
///         byte at fault is named.
std::vector<TextLine> read_text_list(const std::string& path);

}  // namespace seg
