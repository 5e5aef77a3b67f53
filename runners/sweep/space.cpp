#include "runners/sweep/space.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "registry/printed.hpp"
#include "registry/schema.hpp"
#include "registry/yaml.hpp"
#include "registry/yaml_scalar.hpp"
#include "segcore/data/rng.hpp"

namespace seg {
namespace {

const std::vector<std::string>& distribution_words() {
  static const std::vector<std::string> words{"uniform", "log_uniform", "int", "choice"};
  return words;
}

bool is_distribution_word(const std::string& key) {
  const auto& words = distribution_words();
  return std::find(words.begin(), words.end(), key) != words.end();
}

/// Reads `{int: [1, 8]}` and its like. \return whether it is right.
bool read_distribution(const Config::Item& item, const std::string& path, SweepDimension& out,
                       Diagnostics& problems) {
  using Kind = SweepDimension::Kind;
  const std::string here = path + "." + item.key;
  if (item.key == "choice") {
    if (!item.value.is_list()) {
      detail::wrong_type(item.value, here, "list of values", problems);
      return false;
    }
    out.choices = item.value.list;
    return true;
  }
  const bool whole = item.key == "int";
  std::optional<std::array<double, 2>> range;
  if (whole) {
    if (const auto read = Convert<std::array<int64_t, 2>>::from(item.value, here, problems)) {
      range = {static_cast<double>((*read)[0]), static_cast<double>((*read)[1])};
    }
  } else {
    range = Convert<std::array<double, 2>>::from(item.value, here, problems);
  }
  if (!range) return false;
  out.kind = whole ? Kind::kInt : item.key == "uniform" ? Kind::kUniform : Kind::kLogUniform;
  std::tie(out.low, out.high) = std::pair((*range)[0], (*range)[1]);
  if (!(out.low < out.high)) {
    problems.error(item.value.origin, here, "the first number must be below the second");
    return false;
  }
  if (out.kind == Kind::kLogUniform && !(out.low > 0)) {
    problems.error(item.value.origin, here, "a logarithmic range must begin above 0");
    return false;
  }
  return true;
}

/// Whether a mapping below a key describes its values; else its keys continue the dotted path, as
/// those of --cfg-options do.
bool is_distribution(const Config& value) {
  return value.is_map() && std::any_of(value.map.begin(), value.map.end(), [](const auto& item) {
           return is_distribution_word(item.key);
         });
}

class SpaceReader {
 public:
  SpaceReader(const std::string& path, Diagnostics& problems) : path_(path), problems_(problems) {}

  /// Reads the keys of a mapping and of those below it.
  void read(const Config& map, const std::string& prefix, std::vector<SweepDimension>& out) {
    for (const Config::Item& item : map.map) {
      const std::string key = prefix + item.key;
      if (item.value.is_map() && !is_distribution(item.value)) {
        if (item.value.map.empty()) expected_values(item.value, key);
        read(item.value, key + ".", out);
        continue;
      }
      if (auto dimension = read_dimension(key, item)) add(std::move(*dimension), out);
    }
  }

 private:
  void expected_values(const Config& value, const std::string& key) {
    detail::wrong_type(value, path_ + "." + key,
                       "a list of values, or one of {uniform: [LOW, HIGH]}, {log_uniform: [LOW, "
                       "HIGH]}, {int: [LOW, HIGH]}, {choice: [VALUE, ...]}",
                       problems_);
  }

  std::optional<SweepDimension> read_dimension(const std::string& key, const Config::Item& item) {
    SweepDimension out;
    out.key = key;
    out.origin = item.key_origin;
    const std::string here = path_ + "." + key;
    if (item.value.is_list()) {
      out.choices = item.value.list;
    } else if (!item.value.is_map()) {
      expected_values(item.value, key);
      return std::nullopt;
    } else {
      for (const Config::Item& part : item.value.map) {
        if (is_distribution_word(part.key)) continue;
        problems_.error(part.key_origin, here,
                        text("there is no distribution '", part.key, "'.",
                             did_you_mean(part.key, distribution_words()),
                             " Known: ", join(distribution_words(), ", ")));
        return std::nullopt;
      }
      if (item.value.map.size() > 1) {
        problems_.error(item.value.origin, here, "has more than one distribution");
        return std::nullopt;
      }
      if (!read_distribution(item.value.map[0], here, out, problems_)) return std::nullopt;
    }
    if (out.kind == SweepDimension::Kind::kChoice && out.choices.empty()) {
      problems_.error(item.value.origin, here, "has no values");
      return std::nullopt;
    }
    return out;
  }

  /// A key may be written twice, dotted and nested: the later one counts, as in --cfg-options.
  static void add(SweepDimension dimension, std::vector<SweepDimension>& out) {
    for (SweepDimension& other : out) {
      if (other.key != dimension.key) continue;
      other = std::move(dimension);
      return;
    }
    out.push_back(std::move(dimension));
  }

  const std::string& path_;
  Diagnostics& problems_;
};

/// Four digits are more than any value needs, and keep names and configs short.
Config rounded_number(double value) {
  return Config::of(std::strtod(printed("%.4g", value).c_str(), nullptr));
}

/// FNV-1a: stable, so that a seed gives the same trials everywhere.
uint64_t hash_of_key(const std::string& key) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

std::vector<Config> SweepDimension::values() const {
  if (kind == Kind::kChoice) return choices;
  std::vector<Config> out;
  for (auto value = static_cast<int64_t>(low); value <= static_cast<int64_t>(high); ++value) {
    out.push_back(Config::of(value));
    out.back().origin = origin;
  }
  return out;
}

Config SweepDimension::draw(uint64_t seed, uint64_t trial) const {
  Rng rng(seed ^ hash_of_key(key), RngPurpose::kSampler, /*epoch=*/0, trial);
  Config out;
  switch (kind) {
    case Kind::kChoice:
      return choices[static_cast<size_t>(rng.below(static_cast<int64_t>(choices.size())))];
    case Kind::kInt:
      out = Config::of(static_cast<int64_t>(low) + rng.below(static_cast<int64_t>(high - low) + 1));
      break;
    case Kind::kUniform:
      out = rounded_number(rng.uniform(low, high));
      break;
    case Kind::kLogUniform:
      out = rounded_number(std::exp(rng.uniform(std::log(low), std::log(high))));
      break;
  }
  out.origin = origin;
  return out;
}

TypeDoc Convert<SweepSpace>::type() {
  using Kind = TypeDoc::Kind;
  const auto range = [](const char* name, const char* meaning, TypeDoc type) {
    return OptionDoc{name, std::move(type), "null", meaning, false};
  };
  const auto group = std::make_shared<const std::vector<OptionDoc>>(std::vector<OptionDoc>{
      range("uniform", "[low, high]: any number between", Convert<std::array<double, 2>>::type()),
      range("log_uniform", "[low, high]: any number between, each power of ten as likely as others",
            Convert<std::array<double, 2>>::type()),
      range("int", "[low, high]: a whole number, both ends included",
            Convert<std::array<int64_t, 2>>::type()),
      range("choice", "one of these values", Convert<std::vector<Config>>::type())});
  TypeDoc distribution{.kind = Kind::kGroup, .name = "distribution", .items = {}};
  distribution.group = group;
  TypeDoc value{.kind = Kind::kOneOf, .name = "list of values or distribution", .items = {}};
  value.items = {Convert<std::vector<Config>>::type(), distribution};
  TypeDoc keys{.kind = Kind::kMap, .name = "mapping to " + value.name, .items = {value}};
  TypeDoc runs = Convert<std::vector<std::map<std::string, Config>>>::type();
  TypeDoc out{.kind = Kind::kOneOf, .name = keys.name + " or list of mappings", .items = {}};
  out.items = {keys, runs};
  return out;
}

std::optional<SweepSpace> Convert<SweepSpace>::from(const Config& c, const std::string& path,
                                                    Diagnostics& problems) {
  const size_t before = problems.error_count();
  SweepSpace out;
  out.is_list = c.is_list();
  if (c.is_list()) {
    for (size_t i = 0; i < c.list.size(); ++i) {
      if (!c.list[i].is_map()) {
        detail::wrong_type(c.list[i], text(path, ".", i), "mapping of keys to values", problems);
        continue;
      }
      ConfigChanges& changes = out.list.emplace_back();
      for (const Config::Item& item : c.list[i].map) {
        changes.emplace_back(item.key, item.value);
        if (!changes.back().second.origin.file) changes.back().second.origin = item.key_origin;
      }
    }
  } else if (c.is_map()) {
    SpaceReader(path, problems).read(c, "", out.dimensions);
  } else {
    detail::wrong_type(c, path, "mapping, or list of mappings", problems);
  }
  if (problems.error_count() != before) return std::nullopt;
  return out;
}

}  // namespace seg
