/// The arithmetic of deformable attention, for its kernels: the value of one channel, and the
/// gradients of the samples of one query and head.
#pragma once
#include <cstdint>

#include "segcore/ops/pixels_around.hpp"

namespace seg {

inline constexpr int kMostAttendedLevels = 16;

/// The sizes of a call.
struct DeformableAttentionGeometry {
  int64_t images, queries, heads, channels;  ///< channels of one head
  int64_t levels, points;
  int64_t pixels;  ///< of all levels
  int64_t height[kMostAttendedLevels], width[kMostAttendedLevels];
  int64_t first[kMostAttendedLevels];  ///< pixel of the level
};

/// The pixels of a level around a sample.
/// \param location  x and y of the sample, from 0 to 1.
template <class Real>
SEG_KERNEL_PART PixelsAround<Real> pixels_of_sample(const Real* location,
                                                    const DeformableAttentionGeometry& g,
                                                    int64_t level) {
  const int64_t height = g.height[level], width = g.width[level];
  return pixels_around<Real>(location[0] * static_cast<Real>(width) - Real(0.5),
                             location[1] * static_cast<Real>(height) - Real(0.5), height, width);
}

/// Where the first channel of a head in the first pixel of an image is.
/// \param place  number of the query and the head, [N, Q, heads].
SEG_KERNEL_PART int64_t first_value_of(int64_t place, const DeformableAttentionGeometry& g) {
  const int64_t image = place / (g.queries * g.heads);
  return (image * g.pixels * g.heads + place % g.heads) * g.channels;
}

/// A value of the result.
/// \param n  its number, [N, Q, heads, channels].
template <class Real>
SEG_KERNEL_PART Real attended_value(const Real* value, const Real* locations, const Real* weights,
                                    const DeformableAttentionGeometry& g, int64_t n) {
  const int64_t place = n / g.channels, row = g.heads * g.channels;
  const Real* values = value + first_value_of(place, g) + n % g.channels;
  int64_t sample = place * g.levels * g.points;
  Real sum = 0;
  for (int64_t level = 0; level < g.levels; ++level) {
    const Real* map = values + g.first[level] * row;
    for (int64_t point = 0; point < g.points; ++point, ++sample) {
      const auto around = pixels_of_sample(locations + 2 * sample, g, level);
      Real mean = 0;
      for (int k = 0; k < 4; ++k) {
        if (around.pixels[k] >= 0) mean += around.shares[k] * map[around.pixels[k] * row];
      }
      sum += weights[sample] * mean;
    }
  }
  return sum;
}

template <class Real>
struct AttentionOperands {
  const Real *grad, *value, *locations, *weights;
};
/// The gradients; those of the values hold zeros.
template <class Real>
struct AttentionGradients {
  Real *value, *locations, *weights;
};

/// The gradients of the samples of a query and head, whose channels threads share.
/// \tparam Threads  has `index` of this thread and `count`; `sum(x)`, that of all threads' x, which
///     the first gets; `add(Real* to, Real x)`; and `writes`, false of threads that only take part
///     in sums.
template <class Real, class Threads>
SEG_KERNEL_PART void sample_gradients(const AttentionOperands<Real>& in,
                                      const DeformableAttentionGeometry& g, int64_t place,
                                      const Threads& threads, const AttentionGradients<Real>& out) {
  const int64_t row = g.heads * g.channels, first = first_value_of(place, g);
  const Real* grad = in.grad + place * g.channels;
  int64_t sample = place * g.levels * g.points;
  for (int64_t level = 0; level < g.levels; ++level) {
    for (int64_t point = 0; point < g.points; ++point, ++sample) {
      const auto around = pixels_of_sample(in.locations + 2 * sample, g, level);
      const Real weight = in.weights[sample];
      Real dot[4] = {0, 0, 0, 0};  // of the gradient and each pixel
      for (int k = 0; k < 4; ++k) {
        if (around.pixels[k] >= 0) {
          const int64_t at = first + (g.first[level] + around.pixels[k]) * row;
          for (int64_t c = threads.index; c < g.channels; c += threads.count) {
            dot[k] += grad[c] * in.value[at + c];
            if (threads.writes) {
              threads.add(out.value + at + c, weight * around.shares[k] * grad[c]);
            }
          }
        }
        dot[k] = threads.sum(dot[k]);
      }
      if (threads.index == 0 && threads.writes) {
        out.weights[sample] = around.mean(dot);
        out.locations[2 * sample] =
            weight * static_cast<Real>(g.width[level]) * around.slope_right(dot);
        out.locations[2 * sample + 1] =
            weight * static_cast<Real>(g.height[level]) * around.slope_down(dot);
      }
    }
  }
}

}  // namespace seg
