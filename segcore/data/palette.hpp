/// Colours of classes.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace seg {

/// RGB of each class.
using Palette = std::vector<std::array<int, 3>>;

/// Colours for data sets that have none, always the same: vivid and far apart for the first dozen,
/// of which one alone is green, since photographs are full of it; then each as far as possible from
/// all before.
Palette default_palette(int64_t classes);
/// The palette itself where it is long enough, else the default one.
Palette palette_or_default(const Palette& palette, int64_t classes);

}  // namespace seg
