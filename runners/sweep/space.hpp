/// What a sweep varies: `space` of its file.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "registry/convert.hpp"

namespace seg {

/// Values by dotted key, in the order of the file.
using ConfigChanges = std::vector<std::pair<std::string, Config>>;

/// One key of a space with the values that it may take.
struct SweepDimension {
  enum class Kind { kChoice, kInt, kUniform, kLogUniform };
  std::string key;  ///< dotted, as in --cfg-options
  Origin origin;
  Kind kind = Kind::kChoice;
  std::vector<Config> choices;  ///< kChoice
  double low = 0, high = 0;     ///< of the other kinds, both inclusive

  /// Every value, in order; only for kChoice and kInt.
  std::vector<Config> values() const;
  /// The value of one trial: a function of seed, key and trial alone, so that more trials or keys
  /// change none of those before. Real numbers have four significant digits.
  Config draw(uint64_t seed, uint64_t trial) const;
};

/// A mapping of keys to values or distributions; under `method: list` a list of mappings, one a
/// run.
struct SweepSpace {
  std::vector<SweepDimension> dimensions;
  std::vector<ConfigChanges> list;
  bool is_list = false;
};

template <>
struct Convert<SweepSpace> {
  static TypeDoc type();
  static std::optional<SweepSpace> from(const Config&, const std::string& path, Diagnostics&);
  static std::string show(const SweepSpace&) { return "{}"; }
};

}  // namespace seg
