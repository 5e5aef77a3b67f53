/// Vectors of length one.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// torch.nn.functional.normalize: divides by the p-norm along a dimension, or by 1e-12 where that
/// is smaller.
at::Tensor normalize(const at::Tensor& x, int64_t dim, double p = 2);

}  // namespace seg
