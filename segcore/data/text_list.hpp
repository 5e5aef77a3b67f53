/// Lists of names in text files: samples, classes.
#pragma once
#include <string>
#include <vector>

namespace seg {

/// The lines of a text file without the blanks around them; empty ones are left out.
/// \throws DataError naming the path, where the file cannot be read or is no text.
std::vector<std::string> read_text_list(const std::string& path);

}  // namespace seg
