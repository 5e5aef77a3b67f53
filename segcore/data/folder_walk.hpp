/// The search of a folder for files: one for data sets and programs, so that all find the same.
#pragma once
#include <string>
#include <vector>

namespace seg {

/// The files below a folder, relative to it and sorted. Links are followed. Passed over: hidden
/// files and folders, the notes that Windows leaves in folders, links back to a folder above (with
/// a warning). A link to nothing counts as a file, so that it is missed and not lost. \param
/// left_out  a folder that is not searched; "" for none. \throws DataError where a folder cannot be
/// listed.
std::vector<std::string> walk_folder(const std::string& folder, const std::string& left_out = "");

}  // namespace seg
