/// Sizes of the images that a model is for.
#pragma once
#include <optional>

#include "registry/config.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Height and width of training images: what the preprocessor pads them to, else the config's
/// variable `crop_size`, else the window of tests. Nothing where there is none of them.
/// \param tree  the resolved config.
/// \throws ConfigError where the variable is no size.
std::optional<Size2> training_size(const Segmentor& model, const Config& tree);

/// The window for images that are too large as a whole: that of tests, else the size of training
/// images, else 512 x 512. \throws ConfigError likewise.
Size2 window_size(const Segmentor& model, const Config& tree);

}  // namespace seg
