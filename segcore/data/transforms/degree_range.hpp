/// The option `degree` of rotations: one number for both directions, or a range.
#pragma once
#include <algorithm>
#include <array>
#include <variant>

#include "registry/schema.hpp"

namespace seg {

using DegreeRange = std::variant<double, std::array<double, 2>>;

inline std::array<double, 2> degree_bounds(const DegreeRange& degree) {
  if (const auto* both = std::get_if<double>(&degree)) return {-*both, *both};
  const auto& ends = std::get<std::array<double, 2>>(degree);
  return {std::min(ends[0], ends[1]), std::max(ends[0], ends[1])};
}

inline void check_degree(const DegreeRange& degree, Problems& problems) {
  if (const auto* both = std::get_if<double>(&degree); both && *both <= 0) {
    problems.error("degree", text("must be above 0, got ", *both));
  }
}

}  // namespace seg
