/// The arithmetic of the CUDA kernels of resize_focal_loss: the loss of one pixel of the labels,
/// and its slope by one logit.
#pragma once
#include "segcore/ops/resized_pixels.hpp"

namespace seg {

/// \tparam Value  of the logits: Real, or a narrower type.
template <class Real, class Value>
struct FocalOperands {
  const Value* logits;                         ///< [N, C, h, w]
  const int64_t* labels;                       ///< [N, H, W]
  const Real *absent_weight, *present_weight;  ///< [C]; null: 1
  const Real* pixel_weight;                    ///< [N, H, W]; null: 1
  Real gamma;
  int64_t ignore_index;
};

/// Of one class of a pixel, with the class's weight.
template <class Real>
struct FocalTerm {
  Real loss, slope;  ///< and its derivative by the logit
};

/// \param own  the class is the label's.
template <class Real>
SEG_KERNEL_PART FocalTerm<Real> focal_term(Real value, bool own, Real weight, Real gamma) {
  const Real z = own ? -value : value;  // p = sigmoid(z) is the probability of what is not so
  const Real e = std::exp(z < 0 ? z : -z), inverse = 1 / (1 + e), log = std::log1p(e);
  const Real minus_log = z < 0 ? log : z + log;  // -log(1 - p)
  const Real p = z < 0 ? e * inverse : inverse, rest = z < 0 ? inverse : e * inverse;
  Real power = weight;
  if (gamma == 2) {
    power *= p * p;
  } else if (gamma != 0) {
    power *= std::exp(gamma * (z < 0 ? z - log : -log));
  }
  const Real slope = power * (gamma * rest * minus_log + p);
  return {power * minus_log, own ? -slope : slope};
}

template <class Real>
struct FocalNote {
  Real weight;    ///< of the pixel; 0: ignored
  int64_t label;  ///< may be no class

  SEG_KERNEL_PART bool has_gradient() const { return weight != 0; }
};

/// The pixels of a call, for `gradient_of_place` too.
template <class Real, class Value>
struct FocalLossPixels {
  FocalOperands<Real, Value> in;

  /// \param pixel  number in [N, H, W].
  SEG_KERNEL_PART FocalNote<Real> note(int64_t pixel) const {
    const int64_t label = in.labels[pixel];
    if (label < 0 || label == in.ignore_index) return {0, label};
    return {in.pixel_weight ? in.pixel_weight[pixel] : Real(1), label};
  }
  SEG_KERNEL_PART FocalTerm<Real> term(const FocalNote<Real>& note, int c, Real value) const {
    const bool own = note.label == c;
    const Real* weights = own ? in.present_weight : in.absent_weight;
    return focal_term(value, own, weights ? weights[c] : Real(1), in.gamma);
  }
  /// The sum over the classes of a pixel, without its weight.
  SEG_KERNEL_PART Real loss(const FocalNote<Real>& note, const ResizedLogits& g,
                            int64_t pixel) const {
    const PixelLogits<Real, Value> logits(in.logits, g, pixel);
    Real sum = 0;
    for (int c = 0; c < g.classes; ++c) sum += term(note, c, logits.of(c)).loss;
    return sum;
  }
  SEG_KERNEL_PART Real gradient(const FocalNote<Real>& note, int64_t, int c, Real value) const {
    return note.weight * term(note, c, value).slope;
  }
};

}  // namespace seg
