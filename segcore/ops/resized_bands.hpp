/// For kernels of CPUs that compare logits with labels at full size, without holding the logits at
/// that size.
///
/// Rows of the labels are taken in bands, a thread each. For each row the two rows of logits around
/// it are mixed, and for each pixel the two columns: the classes of one pixel are neighbours in
/// memory, so that they are one run of vectors that stays in the first cache. The gradient goes the
/// same way back, into a copy of the band's rows of its own; bands are added in order, so that the
/// sums do not depend on the number of threads.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <functional>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/bilinear_taps.hpp"
#include "segcore/ops/class_runs.hpp"

namespace seg {

/// The logit of a class that is none: e to its power is 0.
inline constexpr float kNoClass = -1e30F;

/// Whether the kernels take a call: float, or half precision that becomes float, not empty, and
/// enough classes to be worth it.
bool has_band_kernel(const at::Tensor& logits, const at::Tensor& labels);

/// Everything that a band needs; rows of maps are [width, lanes].
struct ResizedBand {
  const float* logits;  ///< [rows of the band, width, lanes]
  float* gradient;      ///< [rows of the band, width, lanes], zeros; null: none
  const ResizeTaps *rows, *columns;
  int64_t begin, end;  ///< rows of the labels
  int64_t lanes, width, out_width;
  float *row, *row_gradient, *pixel;  ///< scratch: [width, lanes] twice, [lanes]
};

/// How the labels of a call are cut into bands.
class BandPlan {
 public:
  /// \param logits  float [N, C, h, w]
  /// \param labels  [N, H, W]
  BandPlan(const at::Tensor& logits, const at::Tensor& labels, bool align_corners);

  int64_t bands() const { return bands_; }  ///< of an image
  int64_t lanes() const { return lanes_; }
  int64_t tasks() const { return images_ * bands_; }
  using Visit = std::function<void(const ResizedBand& band, int64_t image, int64_t task)>;
  /// Calls `visit` for each band of each image, at the same time in several threads.
  /// \return the gradient that the visits have left, [N, C, h, w]; undefined without one.
  at::Tensor for_bands(const at::Tensor& logits, bool with_gradient, const Visit& visit) const;

 private:
  int64_t end(int64_t band) const;
  /// Of the logits that a band touches.
  int64_t first_row(int64_t band) const;
  int64_t last_row(int64_t band) const;
  at::Tensor joined(const at::Tensor& parts, at::IntArrayRef shape) const;

  int64_t images_, lanes_;
  ResizeTaps rows_, columns_;
  int64_t bands_, most_rows_ = 0;
};

/// Of a side that keeps its size all shares are 0: an infinite neighbour is not to count then.
SEG_VECTOR_BODY vec::F8 between(const vec::F8& low, const vec::F8& high, float share) {
  return share == 0 ? low : low + (high - low) * share;
}

SEG_VECTOR_BODY void mix_rows(const ResizedBand& a, int64_t y) {
  const int64_t size = a.width * a.lanes;
  const int64_t origin = a.rows->first[static_cast<size_t>(a.begin)];
  const float share = a.rows->share[static_cast<size_t>(y)];
  const float* first = a.logits + (a.rows->first[static_cast<size_t>(y)] - origin) * size;
  const float* second = a.logits + (a.rows->second[static_cast<size_t>(y)] - origin) * size;
  for (int64_t i = 0; i < size; i += vec::kLanes) {
    vec::store(a.row + i, between(vec::load(first + i), vec::load(second + i), share));
  }
}

/// Adds the gradient of a row to those of the two rows that it was mixed from.
SEG_VECTOR_BODY void spread_rows(const ResizedBand& a, int64_t y) {
  const int64_t size = a.width * a.lanes;
  const int64_t origin = a.rows->first[static_cast<size_t>(a.begin)];
  const float share = a.rows->share[static_cast<size_t>(y)];
  float* first = a.gradient + (a.rows->first[static_cast<size_t>(y)] - origin) * size;
  float* second = a.gradient + (a.rows->second[static_cast<size_t>(y)] - origin) * size;
  for (int64_t i = 0; i < size; i += vec::kLanes) {
    const vec::F8 all = vec::load(a.row_gradient + i);
    vec::store(first + i, vec::load(first + i) + all * (1 - share));
    vec::store(second + i, vec::load(second + i) + all * share);
    vec::store(a.row_gradient + i, vec::F8{});
  }
}

/// Visits the pixels of a band.
/// \tparam Pixels  what is made of them; its functions are SEG_VECTOR_BODY:
///     `bool counts(int64_t pixel)`: whether to read the pixel of this number in [H, W];
///     `bool read(float* values, const vec::F8& most)`: takes the logits of its classes, [lanes],
///       which it may overwrite, and whose largest is in `most`; whether it has a gradient;
///     `vec::F8 gradient(const float* values, int64_t c)`: that of eight classes;
///     `void end_row()`.
template <class Pixels>
SEG_VECTOR_BODY void visit_pixels(const ResizedBand& a, Pixels& pixels) {
  for (int64_t y = a.begin; y < a.end; ++y) {
    mix_rows(a, y);
    for (int64_t x = 0; x < a.out_width; ++x) {
      if (!pixels.counts(y * a.out_width + x)) continue;
      const float share = a.columns->share[static_cast<size_t>(x)];
      const int64_t first = a.columns->first[static_cast<size_t>(x)] * a.lanes;
      const int64_t second = a.columns->second[static_cast<size_t>(x)] * a.lanes;
      vec::F8 most = vec::all(kNoClass);
      for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
        const vec::F8 value =
            between(vec::load(a.row + first + c), vec::load(a.row + second + c), share);
        vec::store(a.pixel + c, value);
        most = vec::max(value, most);
      }
      if (!pixels.read(a.pixel, most)) continue;
      for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
        const vec::F8 g = pixels.gradient(a.pixel, c);
        const vec::F8 high = g * share;
        float* low = a.row_gradient + first + c;
        vec::store(low, vec::load(low) + (g - high));
        float* next = a.row_gradient + second + c;
        vec::store(next, vec::load(next) + high);
      }
    }
    pixels.end_row();
    if (a.gradient) spread_rows(a, y);
  }
}

/// A band and what is made of its pixels: the arguments of a kernel (SEG_VECTOR_KERNEL) whose body
/// is `visit_band_body`.
template <class Pixels>
struct VisitedBand {
  const ResizedBand& band;
  Pixels& pixels;
};

template <class Pixels>
SEG_VECTOR_BODY void visit_band_body(const VisitedBand<Pixels>& a) {
  Pixels pixels = a.pixels;  // in registers
  visit_pixels(a.band, pixels);
  a.pixels = pixels;
}

/// Replaces the logits of a pixel, [lanes], by e^(logit - most). \return their sum
SEG_VECTOR_BODY float exponentials(float* values, int64_t lanes, float most) {
  vec::F8 sums{};
  for (int64_t c = 0; c < lanes; c += vec::kLanes) {
    const vec::F8 e = vec::exp_of_negative(vec::load(values + c) - most);
    vec::store(values + c, e);
    sums += e;
  }
  return vec::sum_of(sums);
}

/// All bits where class c + i is `label`, for lanes i. Not by a store to one lane, which the next
/// load of eight would wait for.
SEG_VECTOR_BODY vec::I8 is_label(int64_t label, int64_t c) {
  return vec::I8{0, 1, 2, 3, 4, 5, 6, 7} + static_cast<int32_t>(c - label) == 0;
}

}  // namespace seg
