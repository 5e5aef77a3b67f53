/// Position embeddings and patches of plain transformers in other sizes, as timm resizes them:
/// cubic, over wider neighbourhoods where they shrink.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Embeddings of a grid, [1, h * w, C], for another one.
at::Tensor resampled_grid(const at::Tensor& grid, Size2 from, Size2 to);

/// The embeddings of a file, [1, tokens in front + side * side, C], for another grid. The tokens in
/// front stay.
/// \return undefined where the grid is the same or not square.
at::Tensor resampled_position_embedding(const at::Tensor& theirs, const at::Tensor& mine,
                                        int64_t front, Size2 grid);

/// The weight of a convolution over patches, [C, bands, h, w], for patches of another size: the
/// products with resized patches are the nearest to those with the patches.
///
/// FlexiViT, Beyer et al. 2022, arXiv:2212.08013, section 3.4.
at::Tensor resampled_patch_weight(const at::Tensor& weight, Size2 patch);

}  // namespace seg
