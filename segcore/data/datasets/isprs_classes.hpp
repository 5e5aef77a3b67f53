/// The classes of the ISPRS contest of 2D semantic labelling.
#pragma once
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {

/// The classes of Vaihingen and Potsdam, with the colours of the annotations.
inline constexpr KnownClass kIsprsClasses[] = {
    {"impervious_surface", {255, 255, 255}},
    {"building", {0, 0, 255}},
    {"low_vegetation", {0, 255, 255}},
    {"tree", {0, 255, 0}},
    {"car", {255, 255, 0}},
    {"clutter", {255, 0, 0}},
};

}  // namespace seg
