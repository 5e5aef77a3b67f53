/// Flipping of samples.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "segcore/data/sample.hpp"

namespace seg {

/// Plans to flip image and labels; classes change places at once.
/// \param direction    "horizontal", "vertical" or "diagonal" (both).
/// \param swap_labels  pairs of classes that change places ("left arm", "right arm").
void flip_sample(Sample& sample, const std::string& direction,
                 const std::vector<std::array<int64_t, 2>>& swap_labels);

}  // namespace seg
