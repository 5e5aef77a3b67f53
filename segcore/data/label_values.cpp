#include "segcore/data/label_values.hpp"

#include <ATen/Dispatch.h>

#include <array>
#include <set>

namespace seg {

std::vector<int64_t> label_values(const at::Tensor& labels) {
  const auto whole = labels.contiguous();
  std::array<bool, 256> bytes{};
  std::set<int64_t> others;
  AT_DISPATCH_INTEGRAL_TYPES(whole.scalar_type(), "label_values", [&] {
    const auto* values = whole.const_data_ptr<scalar_t>();
    for (int64_t i = 0; i < whole.numel(); ++i) {
      const auto value = static_cast<int64_t>(values[i]);
      if (value >= 0 && value < 256) {
        bytes[static_cast<size_t>(value)] = true;
      } else if (i == 0 || values[i] != values[i - 1]) {
        others.insert(value);
      }
    }
  });
  for (size_t value = 0; value < bytes.size(); ++value) {
    if (bytes[value]) others.insert(static_cast<int64_t>(value));
  }
  return {others.begin(), others.end()};
}

}  // namespace seg
