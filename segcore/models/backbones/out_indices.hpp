/// `out_indices` of backbones that take one index or several.
#pragma once
#include <cstdint>
#include <variant>
#include <vector>

namespace seg {

using OutIndices = std::variant<int64_t, std::vector<int64_t>>;

/// The indices, negative ones counted from the end of `count`. They may still be out of range.
inline std::vector<int64_t> indices_among(const OutIndices& given, int64_t count) {
  const auto* one = std::get_if<int64_t>(&given);
  std::vector<int64_t> out = one ? std::vector<int64_t>{*one} : std::get<1>(given);
  for (int64_t& index : out) {
    if (index < 0) index += count;
  }
  return out;
}

}  // namespace seg
