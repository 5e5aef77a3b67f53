// Probabilities of a pixel are made in the first cache and added to sums of a row in float, those
// to sums of a band in double, and bands in order, so that the results do not depend on the number
// of threads. The backward pass makes them again.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "registry/error.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/ops/resized_bands.hpp"

namespace seg {
namespace {

/// What a band's pixels come to, [lanes] each.
struct ClassTotals {
  std::vector<double> hit, mass;
  std::vector<int64_t> present;
  explicit ClassTotals(int64_t lanes = 0)
      : hit(static_cast<size_t>(lanes)), mass(hit.size()), present(hit.size()) {}
};

/// An activation reads a pixel's logits once, and then gives the probabilities of eight classes
/// from what it has left of them. `by_logit` turns the gradient of a probability into that of the
/// logit, with `mean`, that of all gradients by their probabilities.
struct SoftmaxOfPixel {
  static constexpr bool kNeedsMean = true;
  float factor = 0;
  SEG_VECTOR_BODY void read(float* values, int64_t lanes, const vec::F8& most) {
    factor = 1 / exponentials(values, lanes, vec::max_of(most));
  }
  SEG_VECTOR_BODY vec::F8 probability(const float* values, int64_t c) const {
    return vec::load(values + c) * factor;
  }
  SEG_VECTOR_BODY float probability_of(const float* values, int64_t c) const {
    return values[c] * factor;
  }
  SEG_VECTOR_BODY vec::F8 by_logit(const vec::F8& p, const vec::F8& gradient, float mean) const {
    return p * (gradient - mean);
  }
};

/// Of no activation, and the base of those whose classes are independent.
struct LogitsOfPixel {
  static constexpr bool kNeedsMean = false;
  SEG_VECTOR_BODY void read(float*, int64_t, const vec::F8&) const {}
  SEG_VECTOR_BODY vec::F8 probability(const float* values, int64_t c) const {
    return vec::load(values + c);
  }
  SEG_VECTOR_BODY float probability_of(const float* values, int64_t c) const { return values[c]; }
  SEG_VECTOR_BODY vec::F8 by_logit(const vec::F8&, const vec::F8& gradient, float) const {
    return gradient;
  }
};

struct SigmoidOfPixel : LogitsOfPixel {
  SEG_VECTOR_BODY void read(float* values, int64_t lanes, const vec::F8&) const {
    for (int64_t c = 0; c < lanes; c += vec::kLanes) {
      const vec::F8 x = vec::load(values + c);
      const vec::F8 e = vec::exp_of_negative(x < 0 ? x : -x);
      vec::store(values + c, (x < 0 ? e : vec::all(1.0F)) / (1 + e));
    }
  }
  SEG_VECTOR_BODY vec::F8 by_logit(const vec::F8& p, const vec::F8& gradient, float) const {
    return gradient * (p * (1 - p));
  }
};

/// The pixels of an image whose labels are known.
struct LabelledPixels {
  const int64_t* labels;  ///< [H, W]
  std::optional<int64_t> ignore_index;
  int64_t classes, lanes;
  int64_t label = 0;  ///< of the pixel that is visited; -1: no class

  SEG_VECTOR_BODY bool counts(int64_t number) {
    const int64_t found = labels[number];
    label = found >= 0 && found < classes ? found : -1;
    return !ignore_index || found != *ignore_index;
  }
};

template <class Probability>
struct ClassSumPixels : LabelledPixels {
  bool squared;
  float* row;  ///< scratch [lanes], zeros
  double *hit, *mass;
  int64_t* present;
  Probability probability{};

  SEG_VECTOR_BODY bool read(float* values, const vec::F8& most) {
    probability.read(values, lanes, most);
    for (int64_t c = 0; c < lanes; c += vec::kLanes) {
      const vec::F8 p = probability.probability(values, c);
      vec::store(row + c, vec::load(row + c) + (squared ? p * p : p));
    }
    if (label >= 0) {
      hit[label] += static_cast<double>(probability.probability_of(values, label));
      ++present[label];
    }
    return false;
  }
  SEG_VECTOR_BODY vec::F8 gradient(const float*, int64_t) const { return vec::F8{}; }
  SEG_VECTOR_BODY void end_row() {
    for (int64_t c = 0; c < lanes; ++c) mass[c] += static_cast<double>(row[c]);
    std::fill_n(row, lanes, 0.0F);
  }
};

template <class Probability>
struct ClassGradientPixels : LabelledPixels {
  bool squared;
  const float *by_hit, *by_mass;  ///< [lanes], gradients of an image's sums
  Probability probability{};
  float mean = 0;

  SEG_VECTOR_BODY vec::F8 by_probability(const vec::F8& p, int64_t c) const {
    const vec::F8 mass = vec::load(by_mass + c);
    const vec::F8 own = is_label(label, c) ? vec::load(by_hit + c) : vec::F8{};
    return (squared ? 2 * p * mass : mass) + own;
  }
  SEG_VECTOR_BODY bool read(float* values, const vec::F8& most) {
    probability.read(values, lanes, most);
    if (!Probability::kNeedsMean) return true;
    vec::F8 sums{};
    for (int64_t c = 0; c < lanes; c += vec::kLanes) {
      const vec::F8 p = probability.probability(values, c);
      sums += p * by_probability(p, c);
    }
    mean = vec::sum_of(sums);
    return true;
  }
  SEG_VECTOR_BODY vec::F8 gradient(const float* values, int64_t c) const {
    const vec::F8 p = probability.probability(values, c);
    return probability.by_logit(p, by_probability(p, c), mean);
  }
  SEG_VECTOR_BODY void end_row() const {}
};

using SoftmaxSums = VisitedBand<ClassSumPixels<SoftmaxOfPixel>>;
using SigmoidSums = VisitedBand<ClassSumPixels<SigmoidOfPixel>>;
using LogitSums = VisitedBand<ClassSumPixels<LogitsOfPixel>>;
using SoftmaxGradients = VisitedBand<ClassGradientPixels<SoftmaxOfPixel>>;
using SigmoidGradients = VisitedBand<ClassGradientPixels<SigmoidOfPixel>>;
using LogitGradients = VisitedBand<ClassGradientPixels<LogitsOfPixel>>;
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, SoftmaxSums)
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, SigmoidSums)
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, LogitSums)
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, SoftmaxGradients)
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, SigmoidGradients)
SEG_VECTOR_KERNEL(visit_class_band, visit_band_body, LogitGradients)

/// Calls `use` with an object of the type of an activation.
template <class Use>
void with_activation(int64_t activation, const Use& use) {
  switch (static_cast<LogitActivation>(activation)) {
    case LogitActivation::kSoftmax:
      return use(SoftmaxOfPixel());
    case LogitActivation::kSigmoid:
      return use(SigmoidOfPixel());
    case LogitActivation::kNone:
      return use(LogitsOfPixel());
  }
  throw Error(text("resize_class_sums: no activation ", activation));
}

LabelledPixels pixels_of_image(const at::Tensor& labels, int64_t image,
                               std::optional<int64_t> ignore_index, int64_t classes,
                               int64_t lanes) {
  return {labels.const_data_ptr<int64_t>() + image * labels.size(1) * labels.size(2), ignore_index,
          classes, lanes};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cpu_resize_class_sums(
    const at::Tensor& logits, const at::Tensor& labels, int64_t activation, bool squared,
    std::optional<int64_t> ignore_index, bool align_corners) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_class_sums(logits, labels, activation, squared, ignore_index,
                                      align_corners);
  }
  const auto x = logits.to(at::kFloat);
  const auto truth = labels.to(at::kLong).contiguous();
  const int64_t images = x.size(0), classes = x.size(1);
  const BandPlan plan(x, truth, align_corners);
  std::vector<ClassTotals> totals(static_cast<size_t>(plan.tasks()), ClassTotals(plan.lanes()));
  with_activation(activation, [&](auto probability) {
    plan.for_bands(x, false, [&](const ResizedBand& band, int64_t image, int64_t task) {
      std::vector<float> row(static_cast<size_t>(band.lanes));
      ClassTotals& total = totals[static_cast<size_t>(task)];
      ClassSumPixels<decltype(probability)> pixels{
          pixels_of_image(truth, image, ignore_index, classes, band.lanes),
          squared,
          row.data(),
          total.hit.data(),
          total.mass.data(),
          total.present.data()};
      visit_class_band(VisitedBand<decltype(pixels)>{band, pixels});
    });
  });
  const auto sums = at::zeros({2, images, classes}, at::kDouble);
  const auto present = at::zeros({images, classes}, at::kLong);
  auto hits = sums.accessor<double, 3>()[0], masses = sums.accessor<double, 3>()[1];
  auto counts = present.accessor<int64_t, 2>();
  for (int64_t task = 0; task < plan.tasks(); ++task) {
    const int64_t n = task / plan.bands();
    const ClassTotals& total = totals[static_cast<size_t>(task)];
    for (int64_t c = 0; c < classes; ++c) {
      hits[n][c] += total.hit[static_cast<size_t>(c)];
      masses[n][c] += total.mass[static_cast<size_t>(c)];
      counts[n][c] += total.present[static_cast<size_t>(c)];
    }
  }
  const auto in_float = sums.to(at::kFloat);
  return {in_float[0], in_float[1], present};
}

/// [N, C] as rows of whole vectors.
at::Tensor in_lanes(const at::Tensor& values, int64_t lanes) {
  return at::constant_pad_nd(values.to(at::kFloat), {0, lanes - values.size(1)}, 0).contiguous();
}

at::Tensor cpu_resize_class_sums_backward(const at::Tensor& grad_hit, const at::Tensor& grad_mass,
                                          const at::Tensor& logits, const at::Tensor& labels,
                                          int64_t activation, bool squared,
                                          std::optional<int64_t> ignore_index, bool align_corners) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_class_sums_backward(grad_hit, grad_mass, logits, labels, activation,
                                               squared, ignore_index, align_corners);
  }
  const auto x = logits.to(at::kFloat);
  const auto truth = labels.to(at::kLong).contiguous();
  const BandPlan plan(x, truth, align_corners);
  const auto by_hit = in_lanes(grad_hit, plan.lanes()), by_mass = in_lanes(grad_mass, plan.lanes());
  at::Tensor gradient;
  with_activation(activation, [&](auto probability) {
    gradient = plan.for_bands(x, true, [&](const ResizedBand& band, int64_t image, int64_t) {
      ClassGradientPixels<decltype(probability)> pixels{
          pixels_of_image(truth, image, ignore_index, x.size(1), band.lanes), squared,
          by_hit.const_data_ptr<float>() + image * band.lanes,
          by_mass.const_data_ptr<float>() + image * band.lanes};
      visit_class_band(VisitedBand<decltype(pixels)>{band, pixels});
    });
  });
  return gradient.to(logits.scalar_type());
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("resize_class_sums", &cpu_resize_class_sums);
  m.impl("resize_class_sums_backward", &cpu_resize_class_sums_backward);
}

}  // namespace seg
