/// What labels an annotation has.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace seg {

/// Each value once, the smallest first.
/// \param labels  of integers, on the CPU.
std::vector<int64_t> label_values(const at::Tensor& labels);

}  // namespace seg
