/// Attention inside windows: cutting maps into windows, and biases by relative position.
#pragma once
#include <ATen/core/Tensor.h>

namespace seg {

/// [N, H, W, C] -> [N * windows, side * side, C]; H and W are multiples of the side.
at::Tensor split_windows(const at::Tensor& x, int64_t side);
/// The way back: [N * windows, side * side, C] -> [N, H, W, C].
at::Tensor join_windows(const at::Tensor& windows, int64_t side, int64_t h, int64_t w);

/// The learned score of each pair of positions, to be added to those of attention. The backward
/// pass gathers it once more: of 1025 tokens and 12 heads it takes 50 MB.
/// \param table  [relative positions, heads]
/// \param index  row of the table for each pair, int64 [L, L]
/// \return [heads, L, L]
at::Tensor relative_position_bias(const at::Tensor& table, const at::Tensor& index);

}  // namespace seg
