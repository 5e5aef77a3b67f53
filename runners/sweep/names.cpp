#include "runners/sweep/names.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "registry/yaml.hpp"

namespace seg {
namespace {

constexpr size_t kLongestRunName = 100;
constexpr size_t kLongestLabel = 24;

/// The last parts of each list, joined: as many in all as make them distinct.
std::vector<std::string> distinct_tails(const std::vector<std::vector<std::string>>& paths,
                                        const char* separator) {
  size_t longest = 1;
  for (const auto& path : paths) longest = std::max(longest, path.size());
  std::vector<std::string> out(paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    for (size_t parts = 1; parts <= longest; ++parts) {
      const auto tail = [&](size_t j) {
        const size_t from = paths[j].size() - std::min(parts, paths[j].size());
        return join(std::vector<std::string>(paths[j].begin() + static_cast<std::ptrdiff_t>(from),
                                             paths[j].end()),
                    separator);
      };
      out[i] = tail(i);
      bool distinct = true;
      for (size_t j = 0; j < paths.size(); ++j)
        distinct = distinct && (j == i || tail(j) != out[i]);
      if (distinct) break;
    }
  }
  return out;
}

/// What no file system or shell takes amiss.
std::string safe_for_files(const std::string& words) {
  std::string out;
  for (const char c : words) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                       std::string_view("._=,+-").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else if (out.empty() || out.back() != '-') {
      out += '-';
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> short_keys(const std::vector<std::string>& keys) {
  std::vector<std::vector<std::string>> paths;
  for (const std::string& key : keys) {
    auto& path = paths.emplace_back();
    for (size_t begin = 0; begin <= key.size();) {
      const size_t end = std::min(key.find('.', begin), key.size());
      path.push_back(key.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return distinct_tails(paths, ".");
}

std::vector<std::string> short_paths(const std::vector<std::string>& paths) {
  std::vector<std::vector<std::string>> parts;
  for (const std::string& path : paths) {
    auto& one = parts.emplace_back();
    std::filesystem::path bare(path);
    for (const auto& part : bare.replace_extension()) one.push_back(part.string());
  }
  return distinct_tails(parts, "-");
}

std::string value_label(const Config& value) {
  std::string out;
  if (const Config::Item* type = value.find("type")) {
    out = type->value.scalar;
  } else if (value.is_list() && std::all_of(value.list.begin(), value.list.end(),
                                            [](const Config& e) { return e.is_scalar(); })) {
    std::vector<std::string> words;
    for (const Config& element : value.list) words.push_back(element.scalar);
    out = join(words, "x");
  } else {
    out = value.is_scalar() ? value.scalar : dump_flow(value);
  }
  return out.substr(0, kLongestLabel);
}

std::string run_name(size_t number, size_t digits, const std::vector<std::string>& parts) {
  std::string out = std::to_string(number);
  out.insert(0, digits - std::min(digits, out.size()), '0');
  if (!parts.empty()) out += "_" + safe_for_files(join(parts, ","));
  return out.substr(0, kLongestRunName);
}

}  // namespace seg
