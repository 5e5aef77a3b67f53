/// A value by its rank, without sorting.
#pragma once
#include <ATen/ops/kthvalue.h>

#include <algorithm>
#include <tuple>

namespace seg {

/// The value with `rank` smaller ones before it; a scalar. \param values  [n], more than `rank`.
inline at::Tensor nth_smallest(const at::Tensor& values, int64_t rank) {
  if (!values.is_cpu() || values.scalar_type() != at::kFloat) {
    return std::get<0>(at::kthvalue(values, rank + 1));
  }
  const auto copy = values.contiguous().clone();
  float* first = copy.mutable_data_ptr<float>();
  std::nth_element(first, first + rank, first + copy.numel());
  return copy[rank];
}

}  // namespace seg
