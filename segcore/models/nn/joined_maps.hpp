/// Maps side by side.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace seg {

/// at::cat along the channels, [N, sum of C_i, H, W]: autograd keeps the maps rather than the
/// result, which costs nothing for those that are kept or recomputed anyway.
at::Tensor joined_maps(const std::vector<at::Tensor>& maps);

}  // namespace seg
