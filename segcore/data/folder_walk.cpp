#include "segcore/data/folder_walk.hpp"

#include <algorithm>
#include <filesystem>

#include "registry/error.hpp"

namespace fs = std::filesystem;

namespace seg {

std::vector<std::string> walk_folder(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code trouble;
  auto it = fs::recursive_directory_iterator(
      folder, fs::directory_options::follow_directory_symlink, trouble);
  for (; !trouble && it != fs::recursive_directory_iterator(); it.increment(trouble)) {
    std::error_code none;
    if (it->path().filename().string().starts_with('.') || !it->is_regular_file(none)) continue;
    names.push_back(it->path().lexically_relative(folder).string());
  }
  if (trouble) {
    throw DataError(text("the folder '", folder, "' cannot be listed: ", trouble.message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace seg
