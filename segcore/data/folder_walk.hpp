/// The search of a folder for files.
#pragma once
#include <string>
#include <vector>

namespace seg {

/// The files below a folder but hidden ones, relative to it and sorted.
/// \throws DataError where a folder cannot be listed.
std::vector<std::string> walk_folder(const std::string& folder);

}  // namespace seg
