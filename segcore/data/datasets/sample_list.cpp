#include "segcore/data/datasets/sample_list.hpp"

#include <algorithm>
#include <filesystem>

#include "registry/error.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

constexpr const char* kListSeparators = " \t,;";

bool is_listed_file(const std::string& path) {
  std::error_code none;
  return fs::exists(path, none);
}

bool ends_with_one_of(const std::string& name, const std::vector<std::string>& suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](const std::string& suffix) { return name.ends_with(suffix); });
}

/// Without the quotes that tables of text put around a cell.
std::string unquoted(const std::string& cell) {
  const bool quoted = cell.size() > 1 && cell.front() == '"' && cell.back() == '"';
  return quoted ? cell.substr(1, cell.size() - 2) : cell;
}

std::string quoted_list(const std::vector<std::string>& words) {
  return "'" + join(words, "' or '") + "'";
}

}  // namespace

std::string join_dataset_path(const std::string& folder, const std::string& name) {
  if (folder.empty() || (!name.empty() && name[0] == '/')) return name;
  if (name.empty()) return folder;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

std::string listed_path(const std::string& folder, const std::string& name) {
  const std::string plain = join_dataset_path(folder, name);
  if (name.find('\\') == std::string::npos && !name.starts_with('/')) return plain;
  if (is_listed_file(plain)) return plain;
  std::string slashes = name;
  std::replace(slashes.begin(), slashes.end(), '\\', '/');
  const size_t first = slashes.find_first_not_of('/');
  const std::string relative = first == std::string::npos ? "" : slashes.substr(first);
  for (const std::string& way : {slashes, relative}) {
    const std::string path = join_dataset_path(folder, way);
    if (is_listed_file(path)) return path;
  }
  return plain;
}

std::vector<SampleLines::Pair> SampleLines::divisions(const std::string& line) const {
  std::vector<Pair> ways, by_tab;
  for (size_t begin = line.find_first_of(kListSeparators); begin != std::string::npos;) {
    const size_t end = line.find_first_not_of(kListSeparators, begin);
    if (end == std::string::npos) break;
    const Pair way(unquoted(line.substr(0, begin)), unquoted(line.substr(end)));
    if (ends_with_one_of(way.first, img_suffixes_) && ends_with_one_of(way.second, seg_suffixes_)) {
      ways.push_back(way);
      if (line.substr(begin, end - begin).find('\t') != std::string::npos) by_tab.push_back(way);
    }
    begin = line.find_first_of(kListSeparators, end);
  }
  // Names hold blanks and commas; hardly a tab.
  return by_tab.size() == 1 ? by_tab : ways;
}

std::string SampleLines::pair_rule() const {
  return text("an image that ends in ", quoted_list(img_suffixes_),
              " (img_suffix) and an annotation that ends in ", quoted_list(seg_suffixes_),
              " (seg_map_suffix), with a blank, a tab or a comma between them");
}

void SampleLines::throw_ambiguous(const TextLine& line) const {
  throw DataError(text(list_, ":", line.number, ": '", line.text,
                       "' can be divided into image and annotation in several ways: put a tab "
                       "between the two"));
}

void SampleLines::report_trouble(const TextLine& line, const std::string& image) const {
  std::string why;
  if (line.text.find('\\') != std::string::npos) {
    why = "The line holds a backslash; folders are separated by '/'";
  } else if (line.text.starts_with('/')) {
    why = "The line begins with a slash, which makes it a path from the root of the disk";
  } else {
    const size_t at = line.text.find_first_of("\t,; ");
    if (at == std::string::npos) return;
    const char found = line.text[at];
    why = text("The line holds ",
               found == '\t'  ? "a tab"
               : found == ',' ? "a comma"
               : found == ';' ? "a semicolon"
                              : "a blank",
               " and is taken for one name; two are ", pair_rule());
  }
  throw DataError(text(list_, ":", line.number, ": there is no image '", image, "'. ", why));
}

}  // namespace seg
