#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/ops/resized_bands.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// Whether no class before the label is as good.
SEG_VECTOR_BODY bool is_first_best(const float* values, int64_t label, float best) {
  if (values[label] < best) return false;
  for (int64_t c = 0; c < label; ++c) {
    if (values[c] == best) return false;
  }
  return true;
}

/// What a band's pixels come to.
struct CrossEntropyTotals {
  double loss = 0, weight = 0;
  int64_t right = 0, valid = 0;
};

struct CrossEntropyPixels {
  const int64_t* labels;      ///< [H, W] of the image
  const float* class_weight;  ///< may be null
  const float* pixel_weight;  ///< [H, W] of the image, may be null
  float* losses;              ///< [H, W] of the image, zeros; null: none
  int64_t classes, lanes, ignore_index;
  bool with_gradient;
  CrossEntropyTotals totals{};
  int64_t pixel = 0, label = 0;  ///< that is visited
  float weight = 0, factor = 0;

  SEG_VECTOR_BODY bool counts(int64_t number) {
    pixel = number;
    label = labels[number];
    return label != ignore_index && label >= 0 && label < classes;
  }
  SEG_VECTOR_BODY bool read(float* values, const vec::F8& most) {
    ++totals.valid;
    const float best = vec::max_of(most);
    const float own = values[label];
    totals.right += is_first_best(values, label, best) ? 1 : 0;
    const float sum = exponentials(values, lanes, best);
    const float own_loss = std::log(sum) + best - own;
    if (losses) losses[pixel] = own_loss;
    weight = class_weight ? class_weight[label] : 1.0F;
    totals.weight += weight;
    if (pixel_weight) weight *= pixel_weight[pixel];
    totals.loss += static_cast<double>(weight) * own_loss;
    factor = weight / sum;
    return with_gradient && weight != 0;
  }
  SEG_VECTOR_BODY vec::F8 gradient(const float* values, int64_t c) const {
    const vec::F8 one = is_label(label, c) ? vec::all(weight) : vec::F8{};
    return vec::load(values + c) * factor - one;
  }
  SEG_VECTOR_BODY void end_row() const {}
};

using CrossEntropyBand = VisitedBand<CrossEntropyPixels>;
SEG_VECTOR_KERNEL(cross_entropy_band, visit_band_body, CrossEntropyBand)

struct CrossEntropyOfBatch {
  CrossEntropyTotals totals;
  at::Tensor gradient;  ///< undefined without one
};

/// What is wanted of a batch, besides sums.
struct CrossEntropyWanted {
  const OptionalTensor &class_weight, &pixel_weight;
  bool gradient = false;
  float* losses = nullptr;  ///< [N, H, W], zeros
};

/// \param logits  float. \param labels  int64, contiguous.
CrossEntropyOfBatch cross_entropy_of_batch(const at::Tensor& logits, const at::Tensor& labels,
                                           int64_t ignore_index, bool align_corners,
                                           const CrossEntropyWanted& wanted) {
  const BandPlan plan(logits, labels, align_corners);
  const auto plain = [](const OptionalTensor& weight) {
    return weight ? weight->to(at::kFloat).contiguous() : at::Tensor();
  };
  const at::Tensor of_class = plain(wanted.class_weight), of_pixel = plain(wanted.pixel_weight);
  const int64_t pixels = labels.size(1) * labels.size(2);
  std::vector<CrossEntropyTotals> totals(static_cast<size_t>(plan.tasks()));
  CrossEntropyOfBatch out;
  out.gradient = plan.for_bands(
      logits, wanted.gradient, [&](const ResizedBand& band, int64_t image, int64_t task) {
        CrossEntropyPixels visited{
            .labels = labels.const_data_ptr<int64_t>() + image * pixels,
            .class_weight = of_class.defined() ? of_class.const_data_ptr<float>() : nullptr,
            .pixel_weight =
                of_pixel.defined() ? of_pixel.const_data_ptr<float>() + image * pixels : nullptr,
            .losses = wanted.losses ? wanted.losses + image * pixels : nullptr,
            .classes = logits.size(1),
            .lanes = band.lanes,
            .ignore_index = ignore_index,
            .with_gradient = wanted.gradient};
        cross_entropy_band({band, visited});
        totals[static_cast<size_t>(task)] = visited.totals;
      });
  for (const auto& one : totals) {
    out.totals.loss += one.loss;
    out.totals.weight += one.weight;
    out.totals.right += one.right;
    out.totals.valid += one.valid;
  }
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cpu_resize_cross_entropy(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& class_weight,
    const OptionalTensor& pixel_weight, int64_t ignore_index, bool align_corners,
    bool with_gradient) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                         align_corners, with_gradient);
  }
  const auto x = logits.to(at::kFloat);
  const auto found =
      cross_entropy_of_batch(x, labels.to(at::kLong).contiguous(), ignore_index, align_corners,
                             {class_weight, pixel_weight, with_gradient});
  return {at::full({}, found.totals.loss, x.options()),
          at::full({}, found.totals.weight, x.options()),
          at::tensor({found.totals.right, found.totals.valid}, at::kLong),
          with_gradient ? found.gradient.to(logits.scalar_type()) : at::Tensor()};
}

at::Tensor cpu_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                          int64_t ignore_index, bool align_corners) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_pixel_cross_entropy(logits, labels, ignore_index, align_corners);
  }
  const auto x = logits.to(at::kFloat);
  auto out = at::zeros(labels.sizes(), x.options());
  const OptionalTensor none;
  cross_entropy_of_batch(x, labels.to(at::kLong).contiguous(), ignore_index, align_corners,
                         {none, none, /*gradient=*/false, out.mutable_data_ptr<float>()});
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("resize_cross_entropy", &cpu_resize_cross_entropy);
  m.impl("resize_pixel_cross_entropy", &cpu_resize_pixel_cross_entropy);
}

}  // namespace seg
