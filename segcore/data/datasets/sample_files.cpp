#include "segcore/data/datasets/sample_files.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/data/datasets/metainfo.hpp"
#include "segcore/data/datasets/sample_list.hpp"
#include "segcore/data/folder_walk.hpp"
#include "segcore/data/text_list.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// The suffix that most files of a folder have, for messages.
std::string usual_suffix(const std::map<std::string, size_t>& suffixes) {
  const auto most =
      std::max_element(suffixes.begin(), suffixes.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == suffixes.end() ? std::string() : most->first;
}

bool is_there(const std::string& path) {
  std::error_code none;
  return fs::exists(path, none);
}

std::string lower_case(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

/// "'.png'", or "one of '.png', '.PNG'".
std::string suffix_text(const std::vector<std::string>& suffixes) {
  return text(suffixes.size() > 1 ? "one of " : "", "'", join(suffixes, "', '"), "'");
}

}  // namespace

std::vector<std::string> suffix_list(const Suffixes& suffixes) {
  if (const auto* one = std::get_if<std::string>(&suffixes)) return {*one};
  return std::get<std::vector<std::string>>(suffixes);
}

Schema<DataPrefix> DataPrefix::schema() {
  return Schema<DataPrefix>("Folders of a data set.")
      .optional("img_path", &DataPrefix::img_path,
                "folder of the images; several folders: a ConcatDataset")
      .optional("seg_map_path", &DataPrefix::seg_map_path,
                "folder of the annotations; null: there are none")
      .optional("img_path2", &DataPrefix::img_path2,
                "folder of the second images, where samples have two")
      .optional("depth_map_path", &DataPrefix::depth_map_path,
                "folder of the maps of depth, which are annotations; null: there are none");
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
    throw OptionError("data_prefix." + option,
                      text("there is no folder '", folder, "'", seen_from(folder),
                           ", where data_prefix.", option, " says that the ", what, " are"));
  };
  check(from_root(*params_.data_prefix.img_path), "img_path", "images");
  if (params_.img_suffix2) {
    check(from_root(*params_.data_prefix.img_path2), "img_path2", "second images");
  }
  if (annotation_prefix() && annotated_) {
    check(from_root(*annotation_prefix()), params_.depth ? "depth_map_path" : "seg_map_path",
          "annotations");
  }
}

std::optional<std::string> SampleFinder::seg_folder() const {
  return annotation_prefix() ? std::optional(from_root(*annotation_prefix())) : std::nullopt;
}

/// The second image ends as img_suffix2 says, or as the first one does.
std::string SampleFinder::second_image(const std::string& stem,
                                       const std::string& img_suffix) const {
  if (!params_.img_suffix2) return {};
  const std::string folder = from_root(*params_.data_prefix.img_path2);
  std::vector<std::string> suffixes = suffix_list(*params_.img_suffix2);
  suffixes.push_back(img_suffix);
  for (const std::string& suffix : suffixes) {
    std::string path = listed_path(folder, stem + suffix);
    if (is_there(path)) return path;
  }
  return listed_path(folder, stem + suffixes[0]);
}

std::optional<std::string> SampleFinder::img_suffix_of(const std::string& name) const {
  std::optional<std::string> out;
  for (const auto& suffix : img_suffixes_) {
    if (name.ends_with(suffix) && (!out || suffix.size() > out->size())) out = suffix;
  }
  return out;
}

/// Of several suffixes that an annotation may have, the first whose file is there.
SampleFiles SampleFinder::files_of_stem(const std::string& stem,
                                        const std::string& img_suffix) const {
  SampleFiles files;
  files.image = listed_path(image_folder(), stem + img_suffix);
  files.image2 = second_image(stem, img_suffix);
  const auto folder = seg_folder();
  for (size_t i = 0; folder && i < seg_suffixes_.size(); ++i) {
    const std::string path = listed_path(*folder, stem + seg_suffixes_[i]);
    if (i == 0) files.annotation = path;
    if (seg_suffixes_.size() == 1 || !is_there(path)) continue;
    files.annotation = path;
    break;
  }
  return files;
}

std::vector<SampleFiles> SampleFinder::read_list(const std::string& path) const {
  const SampleLines lines(path, img_suffixes_, seg_suffixes_);
  const std::string images = image_folder(), root = params_.data_root.value_or("");
  const auto annotations = seg_folder();
  // Lists of pairs name files as seen from the root; some from the folders of data_prefix.
  std::optional<bool> pairs_from_prefix;
  const auto files_of_pair = [&](const SampleLines::Pair& pair, bool from_prefix) {
    SampleFiles files;
    files.image = listed_path(from_prefix ? images : root, pair.first);
    if (annotations) {
      files.annotation = listed_path(from_prefix ? *annotations : root, pair.second);
    }
    return files;
  };
  const auto files_exist = [&](const SampleLines::Pair& pair) {
    return is_there(files_of_pair(pair, false).image) || is_there(files_of_pair(pair, true).image);
  };
  std::vector<SampleFiles> out;
  for (const TextLine& line : read_text_list(path)) {
    SampleFiles files;
    const auto pair = params_.img_suffix2 ? std::nullopt : lines.pair(line, files_exist);
    if (pair) {
      if (!pairs_from_prefix) {
        pairs_from_prefix = !is_there(files_of_pair(*pair, false).image) &&
                            is_there(files_of_pair(*pair, true).image);
      }
      files = files_of_pair(*pair, *pairs_from_prefix);
    } else {
      // A name; some lists give it with the suffix of the image.
      std::string stem = line.text;
      std::string suffix = img_suffix_of(stem).value_or("");
      stem.resize(stem.size() - suffix.size());
      if (suffix.empty()) suffix = img_suffixes_[0];
      files = files_of_stem(stem, suffix);
      for (const auto& other : img_suffixes_) {
        if (img_suffixes_.size() == 1 || is_there(files.image)) break;
        files = files_of_stem(stem, other);
      }
    }
    const bool odd =
        line.text.find_first_of(" \t,;\\") != std::string::npos || line.text.starts_with('/');
    if (odd && !tolerant_ && !is_there(files.image)) lines.report_trouble(line, files.image);
    out.push_back(std::move(files));
  }
  if (out.empty()) {
    throw OptionError("ann_file", text("the list '", path, "' names no samples"));
  }
  return out;
}

/// Pictures beside the images whose names end otherwise are mostly images, too.
void SampleFinder::report_left_out(const std::string& folder,
                                   const std::vector<std::string>& names) const {
  const bool whole_suffixes = std::all_of(img_suffixes_.begin(), img_suffixes_.end(),
                                          [](const auto& s) { return s.starts_with('.'); });
  const auto annotations = seg_folder();
  const std::string inside = annotations && !annotations->empty()
                                 ? fs::path(*annotations).lexically_relative(folder).string() + "/"
                                 : "";
  const bool one_folder = annotations && (annotations->empty() || inside == "./");
  std::map<std::string, size_t> counts;
  for (const auto& name : names) {
    if (!has_picture_suffix(name)) continue;
    const bool annotation =
        annotations &&
        ((one_folder && std::any_of(seg_suffixes_.begin(), seg_suffixes_.end(),
                                    [&](const auto& s) { return name.ends_with(s); })) ||
         (!inside.empty() && name.starts_with(inside)));
    const bool same_but_case =
        std::any_of(img_suffixes_.begin(), img_suffixes_.end(),
                    [&](const auto& s) { return lower_case(name).ends_with(lower_case(s)); });
    // With a suffix like "_leftImg8bit.png" other pictures are left out on purpose.
    if (annotation || !(whole_suffixes || same_but_case)) continue;
    ++counts[fs::path(name).extension().string()];
  }
  if (counts.empty()) return;
  std::vector<std::string> all = img_suffixes_, parts;
  for (const auto& [suffix, count] : counts) {
    parts.push_back(text(count, count == 1 ? " picture that ends in '" : " pictures that end in '",
                         suffix, "'"));
    all.push_back(suffix);
  }
  log::warn(folder, ": ", join(parts, ", "), " left out, since img_suffix is ",
            suffix_text(img_suffixes_), "; img_suffix: [", join(all, ", "), "] takes them, too");
}

std::vector<SampleFiles> SampleFinder::list_folder() const {
  const std::string folder = image_folder();
  const std::string start = folder.empty() ? "." : folder;
  std::vector<std::string> others;
  std::vector<SampleFiles> out;
  for (auto& name : walk_folder(start)) {
    if (const auto suffix = img_suffix_of(name)) {
      SampleFiles files = files_of_stem(name.substr(0, name.size() - suffix->size()), *suffix);
      files.image = join_dataset_path(folder, name);
      out.push_back(std::move(files));
    } else {
      others.push_back(std::move(name));
    }
  }
  if (!out.empty()) {
    report_left_out(start, others);
    return out;
  }
  std::map<std::string, size_t> suffixes;
  for (const auto& name : others) ++suffixes[fs::path(name).extension().string()];
  const std::string other = usual_suffix(suffixes);
  throw OptionError(
      "data_prefix.img_path",
      text("there are no images in the folder '", start, "'", seen_from(start),
           ": none of its files ends in ", suffix_text(img_suffixes_), " (img_suffix)",
           other.empty() ? "" : text("; ", suffixes.at(other), " end in '", other, "'")));
}

/// The path below the folder of the images, or the whole one for images elsewhere; with its suffix
/// where two images differ in nothing else.
void SampleFinder::name_outputs(std::vector<SampleFiles>& all) const {
  const fs::path images = image_folder().empty() ? "." : image_folder();
  const fs::path root = params_.data_root.value_or("").empty() ? "." : *params_.data_root;
  std::map<std::string, std::set<std::string>> takers;
  for (SampleFiles& files : all) {
    const fs::path image = files.image;
    fs::path name = image.lexically_normal().lexically_relative(images.lexically_normal());
    if (name.empty() || *name.begin() == "..") {
      name = image.lexically_normal().lexically_relative(root.lexically_normal());
    }
    if (name.empty() || *name.begin() == "..")
      name = fs::absolute(image).lexically_normal().relative_path();
    files.name = name.string();
    takers[name.replace_extension().string()].insert(files.image);
  }
  for (SampleFiles& files : all) {
    const std::string stem = fs::path(files.name).replace_extension().string();
    if (takers.at(stem).size() == 1) files.name = stem;
  }
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
    auto all = list_folder();
    name_outputs(all);
    return select(std::move(all));
  }
  if (!fs::is_regular_file(list, none)) {
    throw OptionError("ann_file", text("there is no file '", list, "'", seen_from(list),
                                       ", which shall list the samples"));
  }
  auto all = params_.read_list ? params_.read_list(list, params_) : read_list(list);
  name_outputs(all);
  return select(std::move(all));
}

std::vector<std::string> SampleFinder::annotations_without_image(
    const std::vector<SampleFiles>& found) const {
  std::vector<std::string> out;
  // Lists and selections leave out files on purpose, and so do pipelines without annotations.
  if (!params_.ann_file.empty() || params_.indices || !annotation_prefix() || !annotated_) {
    return out;
  }
  std::set<std::string> known;
  for (const SampleFiles& files : found) known.insert(files.annotation);
  const std::string folder = from_root(*annotation_prefix());
  const bool one_folder = folder == from_root(*params_.data_prefix.img_path);
  for (const auto& name : walk_folder(folder.empty() ? "." : folder)) {
    if (std::none_of(seg_suffixes_.begin(), seg_suffixes_.end(),
                     [&](const std::string& suffix) { return name.ends_with(suffix); })) {
      continue;
    }
    std::string path = join_dataset_path(folder, name);
    // Where both lie in one folder, images may end as annotations do.
    if (known.contains(path) || (one_folder && img_suffix_of(name))) continue;
    out.push_back(std::move(path));
  }
  return out;
}

}  // namespace seg
