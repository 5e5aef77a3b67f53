/// Weights for EoMT.
#pragma once
#include "segcore/models/segmentors/eomt_layers.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"

namespace seg {

/// Weights of EoMT under transformers' names, fitted to a model: from such ones, or from those of
/// timm's plain transformers for the classification of images, whose names are changed. Position
/// embeddings are resized, and patches of another size take the weights whose products with resized
/// patches are the nearest to theirs (FlexiViT, Beyer et al. 2022, arXiv:2212.08013).
Value eomt_weights(const Value& state, const EomtSizes& sizes);

}  // namespace seg
