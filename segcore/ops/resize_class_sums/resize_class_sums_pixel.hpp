/// The arithmetic of the CUDA kernels of resize_class_sums: what a pixel of the labels adds to
/// the sums, and to the gradient.
#pragma once
#include "segcore/ops/resize_class_sums/logit_activation.hpp"
#include "segcore/ops/resized_pixels.hpp"

namespace seg {

/// What sums and gradients need of a pixel. Its probabilities of a softmax are
/// e^(logit - best) * factor.
template <class Real>
struct alignas(4 * sizeof(Real)) ClassSumNote {
  static constexpr int kNoClass = -1, kNotCounted = -2;
  Real best, factor;
  Real mean;  ///< of the gradients of its probabilities, by these; 0 without a softmax
  int label;  ///< or one of the above

  SEG_KERNEL_PART bool counts() const { return label != kNotCounted; }
  SEG_KERNEL_PART bool has_gradient() const { return counts(); }
};

/// \tparam Value  of the logits: Real, or a narrower type.
template <class Real, class Value>
struct ClassSumOperands {
  const Value* logits;    ///< [N, C, h, w]
  const int64_t* labels;  ///< [N, H, W]
  LogitActivation activation;
  bool squared;  ///< `mass` sums squares
  bool ignores;  ///< pixels with the label `ignore_index` are in no sum
  int64_t ignore_index;
  const Real *by_hit, *by_mass;  ///< [N, C], the gradients of the sums; null in the forward pass

  SEG_KERNEL_PART Real probability(const ClassSumNote<Real>& note, Real value) const {
    switch (activation) {
      case LogitActivation::kSoftmax:
        return std::exp(value - note.best) * note.factor;
      case LogitActivation::kSigmoid:
        return 1 / (1 + std::exp(-value));
      case LogitActivation::kNone:
        break;
    }
    return value;
  }
  /// The gradient of a probability. \param map  its number in [N, C].
  SEG_KERNEL_PART Real by_probability(int64_t map, bool is_label, Real p) const {
    const Real mass = squared ? 2 * p * by_mass[map] : by_mass[map];
    return is_label ? mass + by_hit[map] : mass;
  }
  /// The gradient of a logit, from that of its probability.
  SEG_KERNEL_PART Real by_logit(const ClassSumNote<Real>& note, Real p, Real gradient) const {
    switch (activation) {
      case LogitActivation::kSoftmax:
        return p * (gradient - note.mean);
      case LogitActivation::kSigmoid:
        return gradient * (p * (1 - p));
      case LogitActivation::kNone:
        break;
    }
    return gradient;
  }
};

/// \param pixel  number in [N, H, W].
template <class Real, class Value>
SEG_KERNEL_PART ClassSumNote<Real> class_sum_note(const ClassSumOperands<Real, Value>& in,
                                                  const ResizedLogits& g, int64_t pixel) {
  using Note = ClassSumNote<Real>;
  const int64_t label = in.labels[pixel];
  if (in.ignores && label == in.ignore_index) return {0, 0, 0, Note::kNotCounted};
  Note note{0, 0, 0, label >= 0 && label < g.classes ? static_cast<int>(label) : Note::kNoClass};
  if (in.activation != LogitActivation::kSoftmax) return note;
  const PixelLogits<Real, Value> logits(in.logits, g, pixel);
  RunningSoftmax<Real> softmax;
  for (int c = 0; c < g.classes; ++c) softmax.add(c, logits.of(c));
  note.best = softmax.best;
  note.factor = 1 / softmax.sum;
  if (!in.by_mass) return note;
  const int64_t image = pixel / (static_cast<int64_t>(g.out_height) * g.out_width);
  for (int c = 0; c < g.classes; ++c) {
    const Real p = in.probability(note, logits.of(c));
    note.mean += p * in.by_probability(image * g.classes + c, c == note.label, p);
  }
  return note;
}

/// Sums of neighbouring classes over some pixels.
template <int kClasses, class Real>
struct ClassTerms {
  Real hit[kClasses] = {}, mass[kClasses] = {};
  int present[kClasses] = {};
};

/// Adds a pixel that counts to the sums of the classes from `first` to before `end`.
template <int kClasses, class Real, class Value>
SEG_KERNEL_PART void add_pixel(const ClassSumOperands<Real, Value>& in, const ResizedLogits& g,
                               const ClassSumNote<Real>& note, int64_t pixel, int first, int end,
                               ClassTerms<kClasses, Real>& terms) {
  const PixelLogits<Real, Value> logits(in.logits, g, pixel);
  for (int k = 0; k < kClasses; ++k) {
    const int c = first + k;
    if (c >= end) break;
    const Real p = in.probability(note, logits.of(c));
    terms.mass[k] += in.squared ? p * p : p;
    if (c != note.label) continue;
    terms.hit[k] += p;
    ++terms.present[k];
  }
}

/// The pixels of a call, for `gradient_of_place`.
template <class Real, class Value>
struct ClassSumGradient {
  ClassSumOperands<Real, Value> in;
  const ClassSumNote<Real>* notes;  ///< [N, H, W]

  SEG_KERNEL_PART ClassSumNote<Real> note(int64_t pixel) const { return notes[pixel]; }
  SEG_KERNEL_PART Real gradient(const ClassSumNote<Real>& note, int64_t map, int c,
                                Real value) const {
    const Real p = in.probability(note, value);
    return in.by_logit(note, p, in.by_probability(map, c == note.label, p));
  }
};

}  // namespace seg
