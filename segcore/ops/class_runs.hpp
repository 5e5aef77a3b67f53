/// Maps whose classes are neighbours in memory.
#pragma once
#include <algorithm>
#include <cstdint>

#include "segcore/cpu_vector.hpp"

namespace seg {

/// So many values hold the classes of a pixel in whole vectors.
inline int64_t class_lanes(int64_t classes) {
  return (classes + vec::kLanes - 1) / vec::kLanes * vec::kLanes;
}

/// Copies `rows` rows [classes, rows, width] of an image of `plane` pixels to [rows, width, lanes],
/// with `no_class` behind the last class, for whole vectors.
inline void put_classes_together(const float* from, int64_t plane, int64_t classes, int64_t rows,
                                 int64_t width, int64_t lanes, float no_class, float* to) {
  const int64_t pixels = rows * width;
  // A few pixels at a time, so that the lines of memory that they are written to stay in the cache.
  constexpr int64_t kBlock = 16;
  for (int64_t begin = 0; begin < pixels; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, pixels);
    for (int64_t c = 0; c < classes; ++c) {
      for (int64_t i = begin; i < end; ++i) to[i * lanes + c] = from[c * plane + i];
    }
    for (int64_t i = begin; i < end; ++i) {
      std::fill(to + i * lanes + classes, to + (i + 1) * lanes, no_class);
    }
  }
}

}  // namespace seg
