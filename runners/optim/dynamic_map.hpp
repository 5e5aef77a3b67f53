/// The dynamic map of Dettmers et al. 2022, arXiv:2110.02861, section 1.3: 256 values in seven
/// decades; the larger the decade, the more values. As `create_dynamic_map` of bitsandbytes.
#pragma once
#include <cstdint>
#include <vector>

namespace seg {

struct DynamicMap {
  explicit DynamicMap(bool has_sign);
  static const DynamicMap& of(bool has_sign);

  /// The code of 0.
  int32_t zero = 0;
  /// Values of all codes, ascending.
  std::vector<float> values;
  /// The values from 0 to 1, which are those of the codes from `zero`; and one beyond.
  std::vector<float> levels;
  /// 1 / (levels[i + 1] - levels[i]); 0 for the last level.
  std::vector<float> per_gap;
  /// By the upper 16 bits of a float x in kSmallest..1, from those of kSmallest: the last level
  /// that is not above any x with these bits. At most one more level is not above x.
  std::vector<int32_t> floors;
  static constexpr int32_t kSmallest = 0x3380;  ///< upper bits of 2^-24, below the first level
};

}  // namespace seg
