/// Learned position embeddings of plain vision transformers, for grids of other sizes.
#pragma once
#include <string>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Embeddings of a grid, [1, h * w, C], for another one.
/// \param mode  of the interpolation, as in `resize`.
at::Tensor resized_grid(const at::Tensor& grid, Size2 from, Size2 to, const std::string& mode);

/// The embeddings of a file, [1, tokens in front + side * side, C], in the shape of a model's,
/// [1, 1 + h * w, C]. The first token stays, the model's own takes its place where there is none.
/// \return undefined where they have the model's shape or are not those of a square grid.
at::Tensor fitted_position_embedding(const at::Tensor& theirs, const at::Tensor& mine, Size2 grid,
                                     const std::string& mode);

}  // namespace seg
