/// How many pixels of each class a data set has, for losses that weigh classes by them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "segcore/data/dataset.hpp"

namespace seg {

struct ClassPixels {
  std::vector<double> pixels;  ///< of each class
  std::vector<double> around;  ///< labelled pixels of the images in which the class occurs
};

/// Counts the samples first, first + step, ... in several threads. Labels that are no class do not
/// count; samples that cannot be read count nothing where the data set skips such.
/// \param classes  how many there are.
/// \throws DataError for annotations that cannot be read.
ClassPixels count_class_pixels(const Dataset& dataset, size_t classes, size_t first = 0,
                               size_t step = 1);

}  // namespace seg
