/// The arithmetic that CUDA kernels share which compare small logits with labels at full size:
/// the logits of a pixel of the labels, and the gradient of a place of the logits.
#pragma once
#include <cmath>
#include <cstdint>

#include "segcore/ops/bilinear_side.hpp"

namespace seg {

/// The sizes of a call.
struct ResizedLogits {
  int images, classes;
  int height, width;          ///< of the logits
  int out_height, out_width;  ///< of the labels
  bool align_corners;
};

/// Of a side that keeps its size all shares are 0: an infinite neighbour is not to count then.
template <class Real>
SEG_KERNEL_PART Real between(Real low, Real high, Real share) {
  return share == 0 ? low : low + (high - low) * share;
}

/// The logits of a class around a pixel.
/// \tparam Value  of the logits: Real, or a narrower type.
template <class Real, class Value>
struct RowsAround {
  const Value *upper, *lower;  ///< rows of logits
  Real down;                   ///< share of the lower one

  SEG_KERNEL_PART Real at(int column) const {
    return between(static_cast<Real>(upper[column]), static_cast<Real>(lower[column]), down);
  }
};

/// The logits of one pixel of the labels.
template <class Real, class Value>
class PixelLogits {
 public:
  /// \param logits  [N, C, h, w]
  /// \param pixel   number in [N, H, W].
  SEG_KERNEL_PART PixelLogits(const Value* logits, const ResizedLogits& g, int64_t pixel)
      : plane_(static_cast<int64_t>(g.height) * g.width) {
    const int64_t row = pixel / g.out_width, image = row / g.out_height;
    x_ = BilinearSide<Real>(g.width, g.out_width, g.align_corners)
             .tap(static_cast<int>(pixel % g.out_width));
    const auto y = BilinearSide<Real>(g.height, g.out_height, g.align_corners)
                       .tap(static_cast<int>(row % g.out_height));
    const Value* map = logits + image * g.classes * plane_;
    rows_ = {map + static_cast<int64_t>(y.low) * g.width,
             map + static_cast<int64_t>(y.high) * g.width, y.share};
  }
  SEG_KERNEL_PART Real of(int c) const {
    const RowsAround<Real, Value> rows{rows_.upper + c * plane_, rows_.lower + c * plane_,
                                       rows_.down};
    return between(rows.at(x_.low), rows.at(x_.high), x_.share);
  }

 private:
  int64_t plane_;
  BilinearTap<Real> x_;
  RowsAround<Real, Value> rows_;  ///< of the first class
};

/// The sum of e^(logit - best) over classes that are read once: it is rescaled where the largest
/// logit changes.
template <class Real>
struct RunningSoftmax {
  Real best = 0, sum = 0;
  int best_class = -1;  ///< the first of equal ones

  SEG_KERNEL_PART void add(int c, Real value) {
    if (best_class < 0 || value > best) {
      sum = sum * std::exp(best_class < 0 ? Real(0) : best - value) + 1;
      best = value;
      best_class = c;
    } else {
      sum += value == best ? Real(1) : std::exp(value - best);  // both may be -inf
    }
  }
};

/// A place of the logits, and neighbouring classes that are summed together there.
struct LogitPlace {
  int image, y, x;
  int first_class, classes;
};

/// The gradient of one place of the logits: the sum over the pixels that are mixed from it, in
/// their order, or a lane's part of it. Nothing is added to memory, so that every run has the
/// same bits.
/// \tparam kClasses  at least those of the place, which share what is read of a pixel.
/// \tparam Pixels    what is made of the pixels; its functions are SEG_KERNEL_PART:
///     `Note note(int64_t pixel)`: of a pixel by its number in [N, H, W], with
///       `bool has_gradient()`;
///     `Real gradient(const Note&, int64_t map, int c, Real value)`: by the logit of class c
///       there; `map` is the number of its map in [N, C].
/// \param logits    [N, C, h, w]
/// \param lane      of `lanes`: takes every lanes-th row of pixels, from this one on.
/// \param gradient  of the place's classes; others are left at any value.
template <int kClasses, class Real, class Value, class Pixels>
SEG_KERNEL_PART void gradient_of_place(const Pixels& pixels, const Value* logits,
                                       const ResizedLogits& g, const LogitPlace& place, int lane,
                                       int lanes, Real (&gradient)[kClasses]) {
  const BilinearSide<Real> rows(g.height, g.out_height, g.align_corners);
  const BilinearSide<Real> columns(g.width, g.out_width, g.align_corners);
  const int end_row = rows.first_from(place.y + 1), x = place.x;
  const int first_column = columns.first_from(x - 1), end_column = columns.first_from(x + 1);
  const int64_t plane = static_cast<int64_t>(g.height) * g.width;
  const int64_t first_map = static_cast<int64_t>(place.image) * g.classes + place.first_class;
  const int left = x > 0 ? x - 1 : 0, right = x + 1 < g.width ? x + 1 : x;
  for (int k = 0; k < kClasses; ++k) gradient[k] = 0;
  for (int row = rows.first_from(place.y - 1) + lane; row < end_row; row += lanes) {
    const auto tap_y = rows.tap(row);
    Real around[kClasses][3];  // the columns left of, at and right of the place
    Real sum[kClasses];        // of the row: long sums of floats would lose digits
    for (int k = 0; k < kClasses; ++k) {
      const Value* map = logits + (first_map + (k < place.classes ? k : 0)) * plane;
      const RowsAround<Real, Value> two{map + static_cast<int64_t>(tap_y.low) * g.width,
                                        map + static_cast<int64_t>(tap_y.high) * g.width,
                                        tap_y.share};
      around[k][0] = two.at(left);
      around[k][1] = two.at(x);
      around[k][2] = two.at(right);
      sum[k] = 0;
    }
    const int64_t first_pixel =
        (static_cast<int64_t>(place.image) * g.out_height + row) * g.out_width;
    for (int column = first_column; column < end_column; ++column) {
      const auto note = pixels.note(first_pixel + column);
      if (!note.has_gradient()) continue;
      const auto tap_x = columns.tap(column);
      const Real share = tap_x.of(x);
      for (int k = 0; k < kClasses; ++k) {
        const int used = k < place.classes ? k : 0;
        const Real low = tap_x.low == x ? around[k][1] : around[k][0];
        const Real high = tap_x.low == x ? around[k][2] : around[k][1];
        const Real value = between(low, high, tap_x.share);
        sum[k] += share * pixels.gradient(note, first_map + used, place.first_class + used, value);
      }
    }
    const Real share = tap_y.of(place.y);
    for (int k = 0; k < kClasses; ++k) gradient[k] += share * sum[k];
  }
}

/// How many threads of a warp share the rows of a place, a power of two. A thread is to have
/// eight rows, as at the usual factor of four: few places that reach many pixels would leave most
/// of a GPU idle.
inline int lanes_of_place(const ResizedLogits& g) {
  constexpr int kRows = 8, kWarp = 32;
  const int reached = 2 * g.out_height / g.height;
  int lanes = 1;
  while (lanes < kWarp && reached >= 2 * lanes * kRows) lanes *= 2;
  return lanes;
}

/// The pixels of the labels are cut into tiles, a block of threads each.
inline constexpr int kTileWidth = 32, kTileHeight = 8;

inline int tiles_of(int size, int tile) { return (size + tile - 1) / tile; }
inline int64_t tile_count(const ResizedLogits& g) {
  return static_cast<int64_t>(tiles_of(g.out_width, kTileWidth)) *
         tiles_of(g.out_height, kTileHeight) * g.images;
}

}  // namespace seg
