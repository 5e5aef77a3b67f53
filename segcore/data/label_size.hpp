/// Images, labels and depth of one size.
#pragma once
#include "segcore/data/sample.hpp"

namespace seg {

/// Once an image and its labels or depth are loaded.
/// \throws DataError naming both files where their sizes differ, and EXIF where it explains that.
void check_label_size(const Sample& sample);

}  // namespace seg
