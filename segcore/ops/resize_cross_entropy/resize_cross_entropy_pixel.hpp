/// The arithmetic of the CUDA kernels of resize_cross_entropy: the loss of one pixel of the labels,
/// and the gradient of one place of the logits.
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

/// \tparam Value  of the logits: Real, or a narrower type.
template <class Real, class Value>
struct CrossEntropyOperands {
  const Value* logits;       ///< [N, C, h, w]
  const int64_t* labels;     ///< [N, H, W]
  const Real* class_weight;  ///< [C]; null: 1
  const Real* pixel_weight;  ///< [N, H, W]; null: 1
  int64_t ignore_index;
};

/// What the gradient needs of a pixel: that of a class is e^(logit - best) * factor, less `weight`
/// for the label's.
template <class Real>
struct alignas(4 * sizeof(Real)) CrossEntropyNote {
  Real best, factor, weight;
  int label;  ///< -1: no gradient
};

template <class Real>
struct CrossEntropyPixel {
  Real loss = 0;  ///< without weights
  Real class_weight = 0;
  bool valid = false, right = false;
  CrossEntropyNote<Real> note{0, 0, 0, -1};
};

/// Of a side that keeps its size all shares are 0: an infinite neighbour is not to count then.
template <class Real>
SEG_KERNEL_PART Real between(Real low, Real high, Real share) {
  return share == 0 ? low : low + (high - low) * share;
}

/// The logits of a class around a pixel.
template <class Real, class Value>
struct RowsAround {
  const Value *upper, *lower;  ///< rows of logits
  Real down;                   ///< share of the lower one

  SEG_KERNEL_PART Real at(int column) const {
    return between(static_cast<Real>(upper[column]), static_cast<Real>(lower[column]), down);
  }
};

/// \param pixel  number in [N, H, W].
template <class Real, class Value>
SEG_KERNEL_PART CrossEntropyPixel<Real> cross_entropy_pixel(
    const CrossEntropyOperands<Real, Value>& in, const ResizedLogits& g, int64_t pixel) {
  CrossEntropyPixel<Real> out;
  const int64_t label = in.labels[pixel];
  if (label == in.ignore_index || label < 0 || label >= g.classes) return out;
  const int64_t row = pixel / g.out_width, image = row / g.out_height;
  const auto x = BilinearSide<Real>(g.width, g.out_width, g.align_corners)
                     .tap(static_cast<int>(pixel % g.out_width));
  const auto y = BilinearSide<Real>(g.height, g.out_height, g.align_corners)
                     .tap(static_cast<int>(row % g.out_height));
  const int64_t plane = static_cast<int64_t>(g.height) * g.width;
  const Value* map = in.logits + image * g.classes * plane;
  // The sum is rescaled where the largest logit changes, so that classes are read once.
  Real best = 0, sum = 0, own = 0;
  int best_class = -1;
  for (int c = 0; c < g.classes; ++c, map += plane) {
    const RowsAround<Real, Value> rows{map + static_cast<int64_t>(y.low) * g.width,
                                       map + static_cast<int64_t>(y.high) * g.width, y.share};
    const Real value = between(rows.at(x.low), rows.at(x.high), x.share);
    if (best_class < 0 || value > best) {
      sum = sum * std::exp(best_class < 0 ? Real(0) : best - value) + 1;
      best = value;
      best_class = c;
    } else {
      sum += std::exp(value - best);
    }
    if (c == label) own = value;
  }
  out.valid = true;
  out.right = best_class == label;
  out.loss = std::log(sum) + best - own;
  out.class_weight = in.class_weight ? in.class_weight[label] : Real(1);
  const Real weight = out.class_weight * (in.pixel_weight ? in.pixel_weight[pixel] : Real(1));
  if (weight != 0) out.note = {best, weight / sum, weight, static_cast<int>(label)};
  return out;
}

/// The gradient of one place of the logits: the sum over the pixels that are mixed from it, in
/// their order. Nothing is added to memory, so that every run has the same bits.
/// \tparam kClasses  neighbouring classes that share the notes that are read.
/// \param notes  of the pixels of the image, [H, W].
/// \param map    logits of the first of the classes, [h, w].
/// \param used   of the classes; the others stay 0.
template <int kClasses, class Real, class Value>
SEG_KERNEL_PART void gradient_of_place(const CrossEntropyNote<Real>* notes, const Value* map,
                                       const ResizedLogits& g, int y, int x, int first_class,
                                       int used, Real (&gradient)[kClasses]) {
  const BilinearSide<Real> rows(g.height, g.out_height, g.align_corners);
  const BilinearSide<Real> columns(g.width, g.out_width, g.align_corners);
  const int end_row = rows.first_from(y + 1);
  const int first_column = columns.first_from(x - 1), end_column = columns.first_from(x + 1);
  const int64_t plane = static_cast<int64_t>(g.height) * g.width;
  const int left = x > 0 ? x - 1 : 0, right = x + 1 < g.width ? x + 1 : x;
  for (int k = 0; k < kClasses; ++k) gradient[k] = 0;
  for (int row = rows.first_from(y - 1); row < end_row; ++row) {
    const auto tap_y = rows.tap(row);
    Real around[kClasses][3];  // the columns left of, at and right of the place
    Real sum[kClasses];        // of the row: long sums of floats would lose digits
    for (int k = 0; k < kClasses; ++k) {
      const Value* logits = map + (k < used ? k : 0) * plane;
      const RowsAround<Real, Value> two{logits + static_cast<int64_t>(tap_y.low) * g.width,
                                        logits + static_cast<int64_t>(tap_y.high) * g.width,
                                        tap_y.share};
      around[k][0] = two.at(left);
      around[k][1] = two.at(x);
      around[k][2] = two.at(right);
      sum[k] = 0;
    }
    for (int column = first_column; column < end_column; ++column) {
      const CrossEntropyNote<Real> note = notes[static_cast<int64_t>(row) * g.out_width + column];
      if (note.label < 0) continue;
      const auto tap_x = columns.tap(column);
      const Real share = tap_x.of(x);
      for (int k = 0; k < kClasses; ++k) {
        const Real low = tap_x.low == x ? around[k][1] : around[k][0];
        const Real high = tap_x.low == x ? around[k][2] : around[k][1];
        const Real value = between(low, high, tap_x.share);
        const Real one = note.label == first_class + k ? note.weight : Real(0);
        sum[k] += share * (std::exp(value - note.best) * note.factor - one);
      }
    }
    const Real share = tap_y.of(y);
    for (int k = 0; k < kClasses; ++k) gradient[k] += share * sum[k];
  }
}

}  // namespace seg
