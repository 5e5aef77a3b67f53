/// Counts the arithmetic of a forward pass.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace seg {

/// The cost of the operations called by `run`, by operation, counted as in MMEngine's
/// get_model_complexity_info: a multiplication with an addition is one; convolutions, matrix
/// products, norms, bilinear resizing (4 for each output), average pooling; no activations or sums.
/// Attention by a fused kernel counts as its two matrix products.
std::map<std::string, int64_t> count_flops(const std::function<void()>& run);

}  // namespace seg
