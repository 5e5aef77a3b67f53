#include "runners/evaluate/run_palette.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "registry/error.hpp"
#include "segcore/data/dataset_spec.hpp"

namespace seg {
namespace {

std::string lower_word(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word;
}

/// The names of CSS 2.1 and a few that come to mind as often.
const std::map<std::string, std::array<int, 3>>& named_colours() {
  static const std::map<std::string, std::array<int, 3>> colours{
      {"aqua", {0, 255, 255}},     {"black", {0, 0, 0}},       {"blue", {0, 0, 255}},
      {"brown", {165, 42, 42}},    {"cyan", {0, 255, 255}},    {"fuchsia", {255, 0, 255}},
      {"gray", {128, 128, 128}},   {"green", {0, 128, 0}},     {"grey", {128, 128, 128}},
      {"lime", {0, 255, 0}},       {"magenta", {255, 0, 255}}, {"maroon", {128, 0, 0}},
      {"navy", {0, 0, 128}},       {"olive", {128, 128, 0}},   {"orange", {255, 165, 0}},
      {"pink", {255, 192, 203}},   {"purple", {128, 0, 128}},  {"red", {255, 0, 0}},
      {"silver", {192, 192, 192}}, {"teal", {0, 128, 128}},    {"white", {255, 255, 255}},
      {"yellow", {255, 255, 0}}};
  return colours;
}

/// "#e6194b" or "red".
std::optional<std::array<int, 3>> colour_word(const std::string& word) {
  const auto named = named_colours().find(lower_word(word));
  if (named != named_colours().end()) return named->second;
  const bool hex = word.size() == 7 && word.front() == '#' &&
                   word.find_first_not_of("0123456789abcdefABCDEF", 1) == std::string::npos;
  if (!hex) return std::nullopt;
  const auto part = [&](size_t at) { return std::stoi(word.substr(at, 2), nullptr, 16); };
  return std::array<int, 3>{part(1), part(3), part(5)};
}

/// "230 25 75", "230,25,75", "#e6194b" or "red".
std::optional<std::array<int, 3>> colour_of_line(std::string words) {
  if (const auto colour = colour_word(words)) return colour;
  std::replace(words.begin(), words.end(), ',', ' ');
  unsigned red = 0, green = 0, blue = 0;
  char rest = 0;
  if (words.find('-') != std::string::npos ||
      std::sscanf(words.c_str(), "%u %u %u %c", &red, &green, &blue, &rest) != 3 ||
      std::max({red, green, blue}) > 255) {
    return std::nullopt;
  }
  return std::array<int, 3>{static_cast<int>(red), static_cast<int>(green), static_cast<int>(blue)};
}

Palette palette_of_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw UsageError(text("--palette: cannot read ", path));
  Palette out;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())) != 0) {
      line.pop_back();
    }
    if (line.empty()) continue;
    const auto colour = colour_of_line(line);
    if (!colour) {
      throw UsageError(text("--palette: ", path, ":", number,
                            ": expected a colour as '230 25 75' or '#e6194b', got '", line, "'"));
    }
    out.push_back(*colour);
  }
  return out;
}

/// The registered data set that is meant by "cityscapes" or "CityscapesDataset".
std::optional<std::string> dataset_type(const std::string& word) {
  for (const std::string& name : Registry<Dataset>::instance().names()) {
    if (lower_word(name) == lower_word(word) || lower_word(name) == lower_word(word) + "dataset") {
      return name;
    }
  }
  return std::nullopt;
}

Palette palette_of_dataset(const std::string& type) {
  try {
    const auto dataset = lazy_dataset(Spec<Dataset>::of("{type: " + type + "}")).build();
    if (!dataset->meta().palette.empty()) return dataset->meta().palette;
  } catch (const ConfigError&) {
    // It cannot exist without options, so that its colours are not its own.
  }
  throw UsageError(text("--palette: ", type, " has no colours of its own"));
}

/// Empty where the checkpoint has none.
Palette checkpoint_palette(const Value& checkpoint) {
  const Value* meta = checkpoint.find("meta");
  const Value* dataset_meta = meta ? meta->find("dataset_meta") : nullptr;
  const Value* saved = dataset_meta ? dataset_meta->find("palette") : nullptr;
  Palette palette;
  if (!saved || !(saved->is_list() || saved->is_tuple())) return palette;
  for (const Value& colour : saved->as_list()) {
    if (!colour.is_list() && !colour.is_tuple()) break;
    const ValueList& rgb = colour.as_list();
    if (rgb.size() != 3) break;
    palette.push_back({static_cast<int>(rgb[0].as_int()), static_cast<int>(rgb[1].as_int()),
                       static_cast<int>(rgb[2].as_int())});
  }
  return palette;
}

}  // namespace

Palette palette_option(const std::vector<std::string>& words) {
  if (words.empty()) return {};
  if (words.size() == 1 && !colour_word(words[0]) && !words[0].starts_with('#')) {
    if (lower_word(words[0]) == "default") return default_palette(256);
    if (std::filesystem::is_regular_file(words[0])) return palette_of_file(words[0]);
    if (const auto type = dataset_type(words[0])) return palette_of_dataset(*type);
    auto known = Registry<Dataset>::instance().names();
    known.emplace_back("default");
    for (const auto& [name, colour] : named_colours()) known.push_back(name);
    throw UsageError(text("--palette: '", words[0],
                          "' is neither a file of colours nor a type of data set nor 'default', "
                          "and no list of colours as '#e6194b' or 'red', one for each class.",
                          did_you_mean(words[0], known)));
  }
  Palette out;
  for (const std::string& word : words) {
    const auto colour = colour_word(word);
    if (!colour) {
      throw UsageError(
          text("--palette: expected a colour as '#e6194b' or 'red', got '", word, "'"));
    }
    out.push_back(*colour);
  }
  return out;
}

Palette run_palette(const Palette& option, const DatasetMeta* data, const Value& checkpoint,
                    int64_t classes) {
  const auto covers = [&](const Palette& palette) {
    return static_cast<int64_t>(palette.size()) >= classes;
  };
  if (!option.empty()) {
    if (covers(option)) return option;
    throw UsageError(text("--palette has ", option.size(),
                          option.size() == 1 ? " colour" : " colours", " for ", classes,
                          " classes"));
  }
  if (data && covers(data->palette)) return data->palette;
  const Palette saved = checkpoint_palette(checkpoint);
  return covers(saved) ? saved : default_palette(classes);
}

}  // namespace seg
