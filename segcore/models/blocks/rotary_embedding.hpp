/// Positions of patches as rotations of queries and keys.
#pragma once
#include <ATen/core/Tensor.h>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Cosine and sine of each patch, [h * w, width of a head].
struct RotaryEmbedding {
  at::Tensor cos, sin;
};

/// DINOv3's: centres of the patches from -1 to 1 along both sides, rows first, in periods of
/// 1 to 100.
///
/// DINOv3, Simeoni et al. 2025, arXiv:2508.10104. Rotary embeddings: Su et al. 2021,
/// arXiv:2104.09864.
/// \param head_dim  width of a head; a multiple of 4.
/// \param like      gives precision and device.
/// \param rescale   stretches the coordinates.
RotaryEmbedding dinov3_rotary_embedding(Size2 grid, int64_t head_dim, const at::Tensor& like,
                                        double rescale = 1);

/// Rotates the patches, the last tokens of [N, heads, L, width of a head]; those before stay.
at::Tensor rotated(const at::Tensor& x, const RotaryEmbedding& rotary);

}  // namespace seg
