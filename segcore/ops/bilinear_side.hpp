/// One side of a map that is resized bilinearly, for kernels of all devices.
#pragma once
#include "segcore/ops/kernel_part.hpp"

namespace seg {

/// The two places that a position of the result is mixed from.
template <class Real>
struct BilinearTap {
  int low, high;
  Real share;  ///< of the higher one

  /// The share of a place in this position.
  SEG_KERNEL_PART Real of(int place) const {
    return (low == place ? 1 - share : Real(0)) + (high == place ? share : Real(0));
  }
};

/// Places and shares in the precision of the map, as LibTorch's resizing computes them.
template <class Real>
struct BilinearSide {
  int in, out;
  bool align_corners;
  Real scale;

  SEG_KERNEL_PART BilinearSide(int in_, int out_, bool align_corners_)
      : in(in_), out(out_), align_corners(align_corners_) {
    if (align_corners) {
      scale = out > 1 ? static_cast<Real>(in - 1) / static_cast<Real>(out - 1) : Real(0);
    } else {
      scale = static_cast<Real>(in) / static_cast<Real>(out);
    }
  }
  SEG_KERNEL_PART BilinearTap<Real> tap(int i) const {
    Real position = scale * static_cast<Real>(i);
    if (!align_corners) {
      position = scale * (static_cast<Real>(i) + Real(0.5)) - Real(0.5);
      if (position < 0) position = 0;
    }
    int low = static_cast<int>(position);
    if (low > in - 1) low = in - 1;
    Real share = position - static_cast<Real>(low);
    share = share < 0 ? Real(0) : share > 1 ? Real(1) : share;
    return {low, low + 1 < in ? low + 1 : in - 1, share};
  }
  /// The first position whose lower place is `low` or above it; `out` if none is. The positions
  /// that read a place p are among those from first_from(p - 1) to before first_from(p + 1).
  SEG_KERNEL_PART int first_from(int low) const {
    int begin = 0, end = out;
    while (begin < end) {
      const int middle = begin + (end - begin) / 2;
      if (tap(middle).low < low) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin;
  }
};

}  // namespace seg
