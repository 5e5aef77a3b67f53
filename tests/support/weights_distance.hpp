/// How far two trainings are apart.
#pragma once
#include <algorithm>

#include "segcore/io/value.hpp"
#include "segcore/torch.hpp"

namespace seg::test {

/// The largest difference of two state dicts' tensors, relative to the largest value.
inline double weights_distance(const Value& a, const Value& b) {
  double most = 0, difference = 0;
  for (const auto& [name, value] : a.as_dict()) {
    const at::Tensor x = value.as_tensor().to(at::kDouble);
    const at::Tensor y = b.at(name.as_string()).as_tensor().to(at::kDouble);
    if (x.numel() == 0) continue;
    most = std::max(most, x.abs().max().item<double>());
    difference = std::max(difference, (x - y).abs().max().item<double>());
  }
  return difference / most;
}

}  // namespace seg::test
