/// The arithmetic of the CUDA kernels of resize_cross_entropy: the loss of one pixel of the
/// labels, and what it comes to in the gradient.
#pragma once
#include "segcore/ops/resized_pixels.hpp"

namespace seg {

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

  SEG_KERNEL_PART bool has_gradient() const { return label >= 0; }
};

template <class Real>
struct CrossEntropyPixel {
  Real loss = 0;  ///< without weights
  Real class_weight = 0;
  bool valid = false, right = false;
  CrossEntropyNote<Real> note{0, 0, 0, -1};
};

/// \param pixel  number in [N, H, W].
template <class Real, class Value>
SEG_KERNEL_PART CrossEntropyPixel<Real> cross_entropy_pixel(
    const CrossEntropyOperands<Real, Value>& in, const ResizedLogits& g, int64_t pixel) {
  CrossEntropyPixel<Real> out;
  const int64_t label = in.labels[pixel];
  if (label == in.ignore_index || label < 0 || label >= g.classes) return out;
  const PixelLogits<Real, Value> logits(in.logits, g, pixel);
  RunningSoftmax<Real> softmax;
  Real own = 0;
  for (int c = 0; c < g.classes; ++c) {
    const Real value = logits.of(c);
    softmax.add(c, value);
    if (c == label) own = value;
  }
  out.valid = true;
  out.right = softmax.best_class == label;
  out.loss = std::log(softmax.sum) + softmax.best - own;
  out.class_weight = in.class_weight ? in.class_weight[label] : Real(1);
  const Real weight = out.class_weight * (in.pixel_weight ? in.pixel_weight[pixel] : Real(1));
  if (weight != 0) {
    out.note = {softmax.best, weight / softmax.sum, weight, static_cast<int>(label)};
  }
  return out;
}

/// The pixels of a call, for `gradient_of_place`.
template <class Real>
struct CrossEntropyGradient {
  const CrossEntropyNote<Real>* notes;  ///< [N, H, W]

  SEG_KERNEL_PART CrossEntropyNote<Real> note(int64_t pixel) const { return notes[pixel]; }
  SEG_KERNEL_PART Real gradient(const CrossEntropyNote<Real>& note, int64_t, int c,
                                Real value) const {
    const Real one = note.label == c ? note.weight : Real(0);
    return std::exp(value - note.best) * note.factor - one;
  }
};

}  // namespace seg
