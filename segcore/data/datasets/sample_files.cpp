#include "segcore/data/datasets/sample_files.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "registry/error.hpp"
#include "segcore/data/datasets/metainfo.hpp"
#include "segcore/data/folder_walk.hpp"
#include "segcore/data/text_list.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// As os.path.join of Python: an absolute second part replaces the first.
std::string join_dataset_path(const std::string& folder, const std::string& name) {
  if (folder.empty() || (!name.empty() && name[0] == '/')) return name;
  if (name.empty()) return folder;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

/// The two paths of a line "images/a.png labels/a.png", or nothing where the line is one name.
std::optional<std::pair<std::string, std::string>> split_pair(const std::string& line,
                                                              const std::string& img_suffix,
                                                              const std::string& seg_suffix) {
  const auto gap = line.find_first_of(" \t");
  if (gap == std::string::npos) return std::nullopt;
  const auto next = line.find_first_not_of(" \t", gap);
  const std::string first = line.substr(0, gap), second = line.substr(next);
  if (second.find_first_of(" \t") != std::string::npos) return std::nullopt;
  // Names may hold blanks; two names with their suffixes are a pair.
  if (!first.ends_with(img_suffix) || !second.ends_with(seg_suffix)) return std::nullopt;
  return std::pair(first, second);
}

/// The suffix that most files of a folder have, for messages.
std::string usual_suffix(const std::map<std::string, size_t>& suffixes) {
  const auto most =
      std::max_element(suffixes.begin(), suffixes.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == suffixes.end() ? std::string() : most->first;
}

}  // namespace

Schema<DataPrefix> DataPrefix::schema() {
  return Schema<DataPrefix>("Folders of a data set.")
      .optional("img_path", &DataPrefix::img_path, "folder of the images")
      .optional("seg_map_path", &DataPrefix::seg_map_path,
                "folder of the annotations; null: there are none");
}

std::string SampleFinder::from_root(const std::string& relative) const {
  return params_.data_root ? join_dataset_path(*params_.data_root, relative) : relative;
}

void SampleFinder::check_folders() const {
  std::error_code none;
  const auto check = [&](const std::string& folder, const std::string& option,
                         const std::string& what) {
    if (fs::is_directory(folder.empty() ? "." : folder, none)) return;
    const std::string root = params_.data_root.value_or("");
    if (!root.empty() && !fs::is_directory(root, none)) {
      throw OptionError("data_root", text("there is no folder '", root, "'", seen_from(root),
                                          ": set data_root to where the data set is"));
    }
    throw OptionError("data_prefix",
                      text("there is no folder '", folder, "'", seen_from(folder),
                           ", where data_prefix.", option, " says that the ", what, " are"));
  };
  check(from_root(*params_.data_prefix.img_path), "img_path", "images");
  if (params_.data_prefix.seg_map_path && annotated_) {
    check(from_root(*params_.data_prefix.seg_map_path), "seg_map_path", "annotations");
  }
}

std::vector<SampleFiles> SampleFinder::read_list(const std::string& path) const {
  const auto lines = read_text_list(path);
  const std::string image_folder = from_root(*params_.data_prefix.img_path);
  const std::optional<std::string> seg_folder =
      params_.data_prefix.seg_map_path ? std::optional(from_root(*params_.data_prefix.seg_map_path))
                                       : std::nullopt;
  const auto split = [&](const std::string& line) {
    return split_pair(line, params_.img_suffix, params_.seg_map_suffix);
  };
  // Lists of pairs name files as seen from the root; some from the folders of data_prefix.
  bool pairs_from_prefix = false;
  if (!lines.empty()) {
    if (const auto first = split(lines[0])) {
      std::error_code none;
      pairs_from_prefix = !fs::exists(from_root(first->first), none) &&
                          fs::exists(join_dataset_path(image_folder, first->first), none);
    }
  }
  std::vector<SampleFiles> out;
  for (const auto& line : lines) {
    SampleFiles files;
    if (const auto pair = split(line)) {
      files.image =
          pairs_from_prefix ? join_dataset_path(image_folder, pair->first) : from_root(pair->first);
      if (seg_folder) {
        files.annotation = pairs_from_prefix ? join_dataset_path(*seg_folder, pair->second)
                                             : from_root(pair->second);
      }
    } else {
      // A name; some lists give it with the suffix of the image.
      std::string stem = line;
      if (!params_.img_suffix.empty() && stem.ends_with(params_.img_suffix)) {
        stem.resize(stem.size() - params_.img_suffix.size());
      }
      files.image = join_dataset_path(image_folder, stem + params_.img_suffix);
      if (seg_folder) {
        files.annotation = join_dataset_path(*seg_folder, stem + params_.seg_map_suffix);
      }
    }
    out.push_back(std::move(files));
  }
  if (out.empty()) {
    throw OptionError("ann_file", text("the list '", path, "' names no samples"));
  }
  return out;
}

std::vector<SampleFiles> SampleFinder::list_folder() const {
  const std::string folder = from_root(*params_.data_prefix.img_path);
  const std::optional<std::string> seg_folder =
      params_.data_prefix.seg_map_path ? std::optional(from_root(*params_.data_prefix.seg_map_path))
                                       : std::nullopt;
  const std::string start = folder.empty() ? "." : folder;
  std::vector<std::string> names;
  std::map<std::string, size_t> suffixes;
  for (auto& name : walk_folder(start)) {
    if (name.ends_with(params_.img_suffix)) {
      names.push_back(std::move(name));
    } else {
      ++suffixes[fs::path(name).extension().string()];
    }
  }
  if (names.empty()) {
    const std::string other = usual_suffix(suffixes);
    throw OptionError(
        "data_prefix",
        text("there are no images in the folder '", start, "'", seen_from(start),
             ": none of its files ends in '", params_.img_suffix, "' (img_suffix)",
             other.empty() ? "" : text("; ", suffixes.at(other), " end in '", other, "'")));
  }
  std::vector<SampleFiles> out;
  out.reserve(names.size());
  for (const auto& name : names) {
    SampleFiles files;
    files.image = join_dataset_path(folder, name);
    if (seg_folder) {
      files.annotation =
          join_dataset_path(*seg_folder, name.substr(0, name.size() - params_.img_suffix.size()) +
                                             params_.seg_map_suffix);
    }
    out.push_back(std::move(files));
  }
  return out;
}

std::vector<SampleFiles> SampleFinder::select(std::vector<SampleFiles> all) const {
  if (!params_.indices) return all;
  const auto size = static_cast<int64_t>(all.size());
  std::vector<SampleFiles> out;
  if (const auto* count = std::get_if<int64_t>(&*params_.indices)) {
    const int64_t n = std::min(std::abs(*count), size);
    const auto begin = *count >= 0 ? all.begin() : all.end() - n;
    out.assign(begin, begin + n);
  } else {
    for (const int64_t wanted : std::get<std::vector<int64_t>>(*params_.indices)) {
      const int64_t index = wanted < 0 ? wanted + size : wanted;
      if (index < 0 || index >= size) {
        throw OptionError(
            "indices", text(wanted, " is no index into the ", size, " samples of this data set"));
      }
      out.push_back(all[static_cast<size_t>(index)]);
    }
  }
  if (out.empty()) throw OptionError("indices", "selects no sample");
  return out;
}

std::vector<SampleFiles> SampleFinder::find() const {
  const std::string list = params_.ann_file.empty() ? "" : from_root(params_.ann_file);
  std::error_code none;
  if (list.empty() || fs::is_directory(list, none)) {
    check_folders();
    return select(list_folder());
  }
  if (!fs::is_regular_file(list, none)) {
    throw OptionError("ann_file", text("there is no file '", list, "'", seen_from(list),
                                       ", which shall list the samples"));
  }
  return select(read_list(list));
}

std::vector<std::string> SampleFinder::annotations_without_image(
    const std::vector<SampleFiles>& found) const {
  std::vector<std::string> out;
  // Lists and selections leave out files on purpose, and so do pipelines without annotations.
  if (!params_.ann_file.empty() || params_.indices || !params_.data_prefix.seg_map_path ||
      !annotated_) {
    return out;
  }
  std::set<std::string> known;
  for (const SampleFiles& files : found) known.insert(files.annotation);
  const std::string folder = from_root(*params_.data_prefix.seg_map_path);
  const bool one_folder = folder == from_root(*params_.data_prefix.img_path);
  for (const auto& name : walk_folder(folder.empty() ? "." : folder)) {
    if (!name.ends_with(params_.seg_map_suffix)) continue;
    std::string path = join_dataset_path(folder, name);
    // Where both lie in one folder, images may end as annotations do.
    if (known.contains(path) || (one_folder && name.ends_with(params_.img_suffix))) continue;
    out.push_back(std::move(path));
  }
  return out;
}

}  // namespace seg
