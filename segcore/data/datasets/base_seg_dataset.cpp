#include "segcore/data/datasets/base_seg_dataset.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// As os.path.join of Python: an absolute second part replaces the first.
std::string join_dataset_path(const std::string& folder, const std::string& name) {
  if (folder.empty() || (!name.empty() && name[0] == '/')) return name;
  if (name.empty()) return folder;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

/// " (looked for in /home/me)" where a path is relative.
std::string looked_from(const std::string& path) {
  if (path.empty() || path[0] == '/') return {};
  std::error_code none;
  return " (seen from " + fs::current_path(none).string() + ")";
}

std::vector<std::string> dataset_lines(const std::string& path) {
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

/// The files below a folder but hidden ones, relative to it and sorted.
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

/// The names that `metainfo` gives, else those that the data set comes with.
/// \throws OptionError where `metainfo` names a file that cannot be read.
std::vector<std::string> class_names(const BaseSegDatasetParams& params,
                                     const KnownClasses& known) {
  if (!params.metainfo || !params.metainfo->classes) return known.names;
  const auto& classes = *params.metainfo->classes;
  if (const auto* path = std::get_if<std::string>(&classes)) {
    try {
      return dataset_lines(*path);
    } catch (const DataError& e) {
      throw OptionError("metainfo", text("classes is a list of names or a file of them; ", e.what(),
                                         looked_from(*path)));
    }
  }
  auto names = std::get<std::vector<std::string>>(classes);
  // Some published lists have blanks at the end of a name ("bed ").
  for (std::string& name : names) name.erase(name.find_last_not_of(' ') + 1);
  return names;
}

/// The suffix that most files of a folder have, for messages.
std::string usual_suffix(const std::map<std::string, size_t>& suffixes) {
  const auto most =
      std::max_element(suffixes.begin(), suffixes.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == suffixes.end() ? std::string() : most->first;
}

}  // namespace

TypeDoc Convert<MetaInfo>::type() {
  auto options = std::make_shared<std::vector<OptionDoc>>();
  options->push_back({"classes",
                      Convert<std::variant<std::vector<std::string>, std::string>>::type(), "null",
                      "names of the classes in the order of their ids, or a file of them"});
  options->push_back({"palette", Convert<std::vector<std::array<int64_t, 3>>>::type(), "[]",
                      "one colour (red, green, blue) a class"});
  return {.kind = TypeDoc::Kind::kGroup,
          .name = "mapping",
          .items = {},
          .choices = {},
          .minimum = {},
          .maximum = {},
          .exclusive_minimum = false,
          .group = options};
}

std::optional<MetaInfo> Convert<MetaInfo>::from(const Config& c, const std::string& path,
                                                Diagnostics& problems) {
  if (!c.is_map()) {
    detail::wrong_type(c, path, "mapping", problems);
    return std::nullopt;
  }
  const size_t before = problems.error_count();
  MetaInfo out;
  for (const auto& item : c.map) {
    const std::string here = path + "." + item.key;
    if (item.key == "classes") {
      if (item.value.is_null()) continue;
      if (auto v = Convert<std::variant<std::vector<std::string>, std::string>>::from(
              item.value, here, problems)) {
        out.classes = std::move(*v);
      }
    } else if (item.key == "palette") {
      if (item.value.is_null()) continue;
      if (auto v = Convert<std::vector<std::array<int64_t, 3>>>::from(item.value, here, problems)) {
        for (const auto& color : *v) {
          for (const int64_t value : color) {
            if (value >= 0 && value <= 255) continue;
            problems.error(item.value.origin, here,
                           text("colours are numbers from 0 to 255, got ", value));
            return std::nullopt;
          }
        }
        out.palette = std::move(*v);
      }
    } else {
      problems.warn(
          item.key_origin, path,
          text("'", item.key, "' has no effect.", did_you_mean(item.key, {"classes", "palette"}),
               " Known: classes, palette"));
    }
  }
  if (problems.error_count() != before) return std::nullopt;
  return out;
}

std::string Convert<MetaInfo>::show(const MetaInfo&) { return "{}"; }

Schema<DataPrefix> DataPrefix::schema() {
  return Schema<DataPrefix>("Folders of a data set.")
      .optional("img_path", &DataPrefix::img_path, "folder of the images")
      .optional("seg_map_path", &DataPrefix::seg_map_path,
                "folder of the annotations; null: there are none");
}

void detail::check_seg_dataset(const BaseSegDatasetParams& params, Problems& problems) {
  if (params.backend_args) {
    const auto backend = params.backend_args->find("backend");
    if (backend != params.backend_args->end() && backend->second.scalar != "local" &&
        backend->second.scalar != "disk") {
      problems.error("backend_args", text("files are read from the local disk only, not from '",
                                          backend->second.scalar, "'"));
    }
  }
  if (!params.data_prefix.img_path) {
    problems.error("data_prefix", "needs 'img_path': the folder of the images");
  }
}

Schema<BaseSegDatasetParams> BaseSegDataset::schema() {
  return seg_dataset_schema<Params>(
      "Images and annotations in folders, paired by name, or in a list of files.");
}

BaseSegDataset::BaseSegDataset(const Params& params, const KnownClasses& known,
                               std::optional<int64_t> unlabelled)
    : params_(params), pipeline_(params.pipeline) {
  loads_annotations_ = params_.pipeline.empty() || pipeline_.loads_labels();
  resolve_classes(known, unlabelled);
  if (params_.test_mode && meta_.classes.empty()) {
    throw OptionError("test_mode",
                      "test_mode needs the names of the classes: metainfo: {classes: "
                      "[...]}");
  }
  if (!params_.lazy_init) files();
}

DatasetFacts BaseSegDataset::facts_of(const Params& params, const KnownClasses& known) {
  DatasetFacts facts{.inner = {}, .pipeline = params.pipeline, .classes = {}};
  try {
    facts.classes = class_names(params, known);
  } catch (const OptionError&) {
    // Building the data set reports the file of names that cannot be read.
  }
  return facts;
}

void BaseSegDataset::resolve_classes(const KnownClasses& known, std::optional<int64_t> unlabelled) {
  meta_.classes = class_names(params_, known);
  meta_.palette = known.palette;
  meta_.reduce_zero_label = params_.reduce_zero_label;
  meta_.ignore_index = params_.ignore_index;
  bool own_palette = false;
  if (params_.metainfo && !params_.metainfo->palette.empty()) {
    own_palette = true;
    meta_.palette.clear();
    for (const auto& color : params_.metainfo->palette) {
      meta_.palette.push_back(
          {static_cast<int>(color[0]), static_cast<int>(color[1]), static_cast<int>(color[2])});
    }
  }
  const bool chosen = !known.names.empty() && meta_.classes != known.names;
  if (chosen) {
    for (const auto& name : meta_.classes) {
      if (std::find(known.names.begin(), known.names.end(), name) == known.names.end()) {
        throw OptionError(
            "metainfo", text("'", name, "' is no class of this data set.",
                             did_you_mean(name, known.names), " Known: ", join(known.names, ", ")));
      }
    }
    // Colours go with the names; a palette of the config is already in the new order, or, being
    // as long as the old one, in the old order.
    const auto old_palette = meta_.palette;
    const bool reorder = !own_palette || meta_.palette.size() != meta_.classes.size();
    if (reorder && old_palette.size() == known.names.size()) {
      meta_.palette.assign(meta_.classes.size(), {});
    }
    for (size_t old_id = 0; old_id < known.names.size(); ++old_id) {
      const auto at = std::find(meta_.classes.begin(), meta_.classes.end(), known.names[old_id]);
      const bool kept = at != meta_.classes.end();
      const auto new_id = at - meta_.classes.begin();
      label_map_.emplace_back(static_cast<int64_t>(old_id), kept ? new_id : params_.ignore_index);
      if (kept && reorder && old_palette.size() == known.names.size()) {
        meta_.palette[static_cast<size_t>(new_id)] = old_palette[old_id];
      }
    }
  }
  if (unlabelled && *unlabelled != params_.ignore_index) {
    label_map_.emplace_back(*unlabelled, params_.ignore_index);
  }
  if (!meta_.palette.empty() && meta_.palette.size() != meta_.classes.size()) {
    throw OptionError("metainfo", text("the palette has ", meta_.palette.size(), " colours for ",
                                       meta_.classes.size(), " classes"));
  }
}

std::string BaseSegDataset::from_root(const std::string& relative) const {
  return params_.data_root ? join_dataset_path(*params_.data_root, relative) : relative;
}

void BaseSegDataset::check_folders() const {
  std::error_code none;
  const auto check = [&](const std::string& folder, const std::string& option,
                         const std::string& what) {
    if (fs::is_directory(folder.empty() ? "." : folder, none)) return;
    const std::string root = params_.data_root.value_or("");
    if (!root.empty() && !fs::is_directory(root, none)) {
      throw OptionError("data_root", text("there is no folder '", root, "'", looked_from(root),
                                          ": set data_root to where the data set is"));
    }
    throw OptionError("data_prefix",
                      text("there is no folder '", folder, "'", looked_from(folder),
                           ", where data_prefix.", option, " says that the ", what, " are"));
  };
  check(from_root(*params_.data_prefix.img_path), "img_path", "images");
  if (params_.data_prefix.seg_map_path && loads_annotations_) {
    check(from_root(*params_.data_prefix.seg_map_path), "seg_map_path", "annotations");
  }
}

std::vector<BaseSegDataset::Files> BaseSegDataset::read_list(const std::string& path) const {
  const auto lines = dataset_lines(path);
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
  std::vector<Files> out;
  for (const auto& line : lines) {
    Files files;
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

std::vector<BaseSegDataset::Files> BaseSegDataset::list_folder() const {
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
        text("there are no images in the folder '", start, "'", looked_from(start),
             ": none of its files ends in '", params_.img_suffix, "' (img_suffix)",
             other.empty() ? "" : text("; ", suffixes.at(other), " end in '", other, "'")));
  }
  std::vector<Files> out;
  out.reserve(names.size());
  for (const auto& name : names) {
    Files files;
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

std::vector<BaseSegDataset::Files> BaseSegDataset::select(std::vector<Files> all) const {
  if (!params_.indices) return all;
  const auto size = static_cast<int64_t>(all.size());
  std::vector<Files> out;
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

std::vector<BaseSegDataset::Files> BaseSegDataset::find_files() const {
  const std::string list = params_.ann_file.empty() ? "" : from_root(params_.ann_file);
  std::error_code none;
  if (list.empty() || fs::is_directory(list, none)) {
    check_folders();
    return select(list_folder());
  }
  if (!fs::is_regular_file(list, none)) {
    throw OptionError("ann_file", text("there is no file '", list, "'", looked_from(list),
                                       ", which shall list the samples"));
  }
  return select(read_list(list));
}

const std::vector<BaseSegDataset::Files>& BaseSegDataset::files() const {
  std::call_once(listed_, [this] { files_ = find_files(); });
  return files_;
}

size_t BaseSegDataset::size() const { return files().size(); }

std::pair<std::string, std::string> BaseSegDataset::paths(size_t index) const {
  const Files& found = files().at(index);
  return {found.image, loads_annotations_ ? found.annotation : std::string()};
}

std::vector<std::string> BaseSegDataset::annotations_without_image() const {
  std::vector<std::string> out;
  // Lists and selections leave out files on purpose, and so do pipelines without annotations.
  if (!params_.ann_file.empty() || params_.indices || !params_.data_prefix.seg_map_path ||
      !loads_annotations_) {
    return out;
  }
  std::set<std::string> known;
  for (const Files& found : files()) known.insert(found.annotation);
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

Sample BaseSegDataset::describe(size_t index) const {
  Sample sample = Dataset::describe(index);
  sample.label_map = label_map_;
  return sample;
}

std::vector<size_t> BaseSegDataset::corrupt_samples() const {
  const std::lock_guard lock(corrupt_mutex_);
  return {corrupt_.begin(), corrupt_.end()};
}

void BaseSegDataset::note_corrupt(size_t index, const std::string& why) const {
  size_t count = 0;
  {
    const std::lock_guard lock(corrupt_mutex_);
    if (!corrupt_.insert(index).second) return;
    count = corrupt_.size();
  }
  log::warn("sample ", index, " is skipped: ", why, " (", count, " skipped so far)");
}

std::vector<PackedSample> BaseSegDataset::get(size_t index, uint64_t seed, uint64_t epoch,
                                              Unusable unusable) const {
  const size_t count = size();
  SEG_CHECK(index < count, "sample ", index, " of ", count);
  if (unusable == Unusable::kLeftOut) {
    try {
      return pipeline_(describe(index), seed, epoch);
    } catch (const EmptySample& e) {
      if (params_.test_mode && !params_.skip_corrupt) throw;
      note_corrupt(index, e.what());
    } catch (const DataError& e) {
      if (!params_.skip_corrupt) throw;
      note_corrupt(index, e.what());
    }
    return {};
  }
  std::string last;
  for (size_t i = 0; i <= static_cast<size_t>(params_.max_refetch) && i < count; ++i) {
    const size_t tried = (index + i) % count;
    try {
      return pipeline_(describe(tried), seed, epoch);
    } catch (const EmptySample& e) {
      if (params_.test_mode) throw;
      last = e.what();
      note_corrupt(tried, last);
    } catch (const DataError& e) {
      if (!params_.skip_corrupt) throw;
      last = e.what();
      note_corrupt(tried, last);
    }
  }
  throw DataError(text("no usable sample in ",
                       std::min(static_cast<size_t>(params_.max_refetch) + 1, count),
                       " tried, beginning at sample ", index, "; the last: ", last));
}

SEG_REGISTER(Dataset, BaseSegDataset);

}  // namespace seg
