/// What a configuration and a model say of the images they are for.
#pragma once
#include <optional>

#include "registry/config.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Height and width that images are trained on: what the preprocessor pads them to, else the
/// variable `crop_size`, else the window of tests. Nothing where the configuration names none.
/// \throws ConfigError where one of them is no size.
std::optional<Size2> training_size(const Config& tree);
/// The window for images that are too large as a whole: that of tests, else the size of training,
/// else 512 x 512. \throws ConfigError likewise.
Size2 window_size(const Config& tree);

}  // namespace seg
