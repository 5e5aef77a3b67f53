#include "segcore/data/folder_walk.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "registry/error.hpp"
#include "registry/log.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

/// One folder on the disk, whatever paths lead to it.
struct FolderId {
  dev_t device = 0;
  ino_t number = 0;
  bool operator==(const FolderId&) const = default;
};

std::optional<FolderId> folder_id(const fs::path& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return std::nullopt;
  return FolderId{found.st_dev, found.st_ino};
}

class FolderWalk {
 public:
  explicit FolderWalk(const std::string& left_out) {
    if (!left_out.empty()) left_out_ = folder_id(left_out);
  }

  /// The folder that was asked for is searched, whatever it is.
  void begin(const fs::path& folder) {
    if (const auto id = folder_id(folder)) above_.push_back(*id);
    search(folder, "");
  }

  std::vector<std::string> files, circles;

 private:
  void search(const fs::path& folder, const fs::path& below) {
    std::error_code trouble;
    for (fs::directory_iterator at(folder, trouble), end; !trouble && at != end;
         at.increment(trouble)) {
      const fs::path name = at->path().filename();
      if (is_passed_over(name.string())) continue;
      std::error_code none;
      if (at->is_directory(none)) {
        enter(at->path(), below / name);
      } else if (at->is_regular_file(none) || (at->is_symlink(none) && !at->exists(none))) {
        files.push_back((below / name).string());
      }
    }
    if (trouble) {
      throw DataError(
          text("the folder '", folder.string(), "' cannot be listed: ", trouble.message()));
    }
  }

  void enter(const fs::path& folder, const fs::path& below) {
    const auto id = folder_id(folder);
    if (id && id == left_out_) return;
    if (id && std::find(above_.begin(), above_.end(), *id) != above_.end()) {
      circles.push_back(folder.string());
      return;
    }
    above_.push_back(id.value_or(FolderId{}));
    search(folder, below);
    above_.pop_back();
  }

  static bool is_passed_over(const std::string& name) {
    return name.starts_with('.') || name == "Thumbs.db" || name == "desktop.ini";
  }

  std::vector<FolderId> above_;
  std::optional<FolderId> left_out_;
};

}  // namespace

std::vector<std::string> walk_folder(const std::string& folder, const std::string& left_out) {
  FolderWalk walk(left_out);
  walk.begin(folder);
  if (!walk.circles.empty()) {
    const size_t count = walk.circles.size();
    log::warn(folder, ": ", count,
              count == 1
                  ? " link leads back to a folder above it and is not followed: "
                  : " links lead back to folders above them and are not followed, the first: ",
              walk.circles[0]);
  }
  std::sort(walk.files.begin(), walk.files.end());
  return walk.files;
}

}  // namespace seg
