#include "runners/optim/dynamic_map.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace seg {

DynamicMap::DynamicMap(bool has_sign) {
  levels.push_back(0);
  for (int decade = 0; decade < 7; ++decade) {
    const int count = (has_sign ? 1 : 2) << decade;
    for (int i = 0; i < count; ++i) {
      levels.push_back(
          static_cast<float>(std::pow(10.0, decade - 6) * (0.1 + 0.9 * (i + 0.5) / count)));
    }
  }
  levels.push_back(1);
  if (has_sign) {
    // 1 has no negative.
    for (size_t i = levels.size() - 2; i > 0; --i) values.push_back(-levels[i]);
  }
  zero = static_cast<int32_t>(values.size());
  values.insert(values.end(), levels.begin(), levels.end());
  for (size_t i = 0; i + 1 < levels.size(); ++i) {
    per_gap.push_back(1 / (levels[i + 1] - levels[i]));
  }
  per_gap.push_back(0);
  constexpr uint32_t kOne = 0x3f80;
  for (uint32_t upper = kSmallest; upper <= kOne; ++upper) {
    const uint32_t bits = upper << 16;
    float x = 0;
    std::memcpy(&x, &bits, sizeof x);
    const auto above = std::upper_bound(levels.begin(), levels.end(), x);
    floors.push_back(static_cast<int32_t>(above - levels.begin()) - 1);
  }
  levels.push_back(std::numeric_limits<float>::infinity());
}

const DynamicMap& DynamicMap::of(bool has_sign) {
  static const DynamicMap with(true), without(false);
  return has_sign ? with : without;
}

}  // namespace seg
