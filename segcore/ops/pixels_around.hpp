/// Bilinear reading of a map at places between its pixels, for kernels of all devices: outside of
/// the map values are 0.
#pragma once
#include <cstdint>

#include "segcore/ops/kernel_part.hpp"

namespace seg {

/// The four pixels around a place: left above, right above, left below, right below.
template <class Real>
struct PixelsAround {
  int64_t pixels[4] = {-1, -1, -1, -1};  ///< -1: outside of the map
  Real shares[4] = {0, 0, 0, 0};
  Real right = 0, down = 0;  ///< shares of the right and of the lower ones

  /// \param values  of the four pixels; 0 of those outside.
  SEG_KERNEL_PART Real mean(const Real (&values)[4]) const {
    return shares[0] * values[0] + shares[1] * values[1] + shares[2] * values[2] +
           shares[3] * values[3];
  }
  /// How the mean changes with the place, per pixel to the right and down.
  SEG_KERNEL_PART Real slope_right(const Real (&values)[4]) const {
    return (1 - down) * (values[1] - values[0]) + down * (values[3] - values[2]);
  }
  SEG_KERNEL_PART Real slope_down(const Real (&values)[4]) const {
    return (1 - right) * (values[2] - values[0]) + right * (values[3] - values[1]);
  }
};

/// \param x, y  in pixels; whole numbers are centres of pixels.
template <class Real>
SEG_KERNEL_PART PixelsAround<Real> pixels_around(Real x, Real y, int64_t height, int64_t width) {
  PixelsAround<Real> out;
  // Also keeps what is not a number from becoming an index.
  const bool near =
      x >= -1 && y >= -1 && x < static_cast<Real>(width) && y < static_cast<Real>(height);
  if (!near) return out;
  // Rounded down: the conversion rounds towards 0.
  int64_t column = static_cast<int64_t>(x), row = static_cast<int64_t>(y);
  column -= x < static_cast<Real>(column);
  row -= y < static_cast<Real>(row);
  out.right = x - static_cast<Real>(column);
  out.down = y - static_cast<Real>(row);
  const Real left = 1 - out.right, up = 1 - out.down;
  const bool has_left = column >= 0, has_right = column + 1 < width;
  const bool has_upper = row >= 0, has_lower = row + 1 < height;
  const int64_t first = row * width + column;
  // Not a loop: at -O2 GCC would keep it, and the arrays in memory.
  out.pixels[0] = has_upper && has_left ? first : -1;
  out.pixels[1] = has_upper && has_right ? first + 1 : -1;
  out.pixels[2] = has_lower && has_left ? first + width : -1;
  out.pixels[3] = has_lower && has_right ? first + width + 1 : -1;
  out.shares[0] = up * left;
  out.shares[1] = up * out.right;
  out.shares[2] = out.down * left;
  out.shares[3] = out.down * out.right;
  return out;
}

}  // namespace seg
