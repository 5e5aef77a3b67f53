/// The classes of the data sets of vessels of the retina.
#pragma once
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {

/// Background and vessels.
inline constexpr KnownClass kVesselClasses[] = {
    {"background", {120, 120, 120}},
    {"vessel", {6, 230, 230}},
};

}  // namespace seg
