#include <ATen/ATen.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"
#include "segcore/ops/resized_bands.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// log(1 + e) within three units of the last place for 0 <= e <= 1.
SEG_VECTOR_BODY vec::F8 log_of_one_and(const vec::F8& e) {
  // log(1 + z), with z = e or (1 + e) / 2 = 1 + z, so that z is in [-0.293, 0.415].
  const vec::I8 large = e > 0.41421356f;
  const vec::F8 z = large ? (e - 1.0f) * 0.5f : e;
  vec::F8 p = z * 7.0376836292e-2f - 1.1514610310e-1f;  // Cephes' logf
  p = p * z + 1.1676998740e-1f;
  p = p * z - 1.2420140846e-1f;
  p = p * z + 1.4249322787e-1f;
  p = p * z - 1.6668057665e-1f;
  p = p * z + 2.0000714765e-1f;
  p = p * z - 2.4999993993e-1f;
  p = p * z + 3.3333331174e-1f;
  const vec::F8 square = z * z;
  const vec::F8 rest = p * z * square - 0.5f * square;
  return z + rest + (large ? vec::all(0.693147181f) : vec::F8{});
}

struct FocalPixels {
  const int64_t* labels;          ///< [H, W] of the image
  const float *absent, *present;  ///< [lanes]; those behind the last class are 0
  const float* pixel_weight;      ///< [H, W] of the image, may be null
  float* losses;                  ///< [H, W] of the image, zeros; null: none
  float gamma;
  int64_t classes, lanes, ignore_index;
  bool with_gradient;
  double total = 0;
  int64_t pixel = 0, label = 0;  ///< that is visited; -1: no class
  float weight = 0;

  SEG_VECTOR_BODY bool counts(int64_t number) {
    const int64_t found = labels[number];
    if (found < 0 || found == ignore_index) return false;
    pixel = number;
    label = found < classes ? found : -1;
    weight = pixel_weight ? pixel_weight[number] : 1.0F;
    return weight != 0;
  }
  SEG_VECTOR_BODY bool read(float* values, const vec::F8&) {
    vec::F8 sums{};
    for (int64_t c = 0; c < lanes; c += vec::kLanes) {
      const vec::I8 own = is_label(label, c);
      const vec::F8 factor = own ? vec::load(present + c) : vec::load(absent + c);
      const vec::F8 x = vec::load(values + c), z = own ? -x : x;
      const vec::F8 below = z < 0 ? z : vec::F8{};
      const vec::F8 e = vec::exp_of_negative(z < 0 ? z : -z);
      const vec::F8 log = log_of_one_and(e), inverse = 1 / (1 + e);
      const vec::F8 minus_log = z - below + log;  // -log(1 - p)
      const vec::F8 p = (z < 0 ? e : vec::all(1.0F)) * inverse;
      const vec::F8 power = factor * power_of(p, below - log);
      sums += power * minus_log;
      if (!with_gradient) continue;
      const vec::F8 rest = (z < 0 ? vec::all(1.0F) : e) * inverse;  // 1 - p
      const vec::F8 slope = power * weight * (gamma * rest * minus_log + p);
      vec::store(values + c, own ? -slope : slope);
    }
    const float loss = vec::sum_of(sums);
    if (losses) losses[pixel] = loss;
    total += static_cast<double>(weight) * static_cast<double>(loss);
    return with_gradient;
  }
  SEG_VECTOR_BODY vec::F8 power_of(const vec::F8& p, const vec::F8& log_p) const {
    if (gamma == 0) return vec::all(1.0F);
    if (gamma == 2) return p * p;
    return vec::exp_of_negative(log_p * gamma);
  }
  SEG_VECTOR_BODY vec::F8 gradient(const float* values, int64_t c) const {
    return vec::load(values + c);
  }
  SEG_VECTOR_BODY void end_row() const {}
};

using FocalBand = VisitedBand<FocalPixels>;
SEG_VECTOR_KERNEL(focal_band, visit_band_body, FocalBand)

/// The weights of classes as whole vectors.
std::vector<float> weights_in_lanes(const OptionalTensor& weight, int64_t classes, int64_t lanes) {
  std::vector<float> out(static_cast<size_t>(lanes));
  std::fill_n(out.begin(), classes, 1.0F);
  if (weight) {
    const auto plain = weight->to(at::kFloat).contiguous();
    std::copy_n(plain.const_data_ptr<float>(), classes, out.begin());
  }
  return out;
}

/// What is wanted of a batch.
struct FocalWanted {
  const OptionalTensor &absent_weight, &present_weight, &pixel_weight;
  double gamma;
  int64_t ignore_index;
  bool align_corners;
  bool gradient = false;
  float* losses = nullptr;  ///< [N, H, W], zeros
};

/// \param logits  float. \param labels  int64, contiguous.
std::pair<double, at::Tensor> focal_loss_of_batch(const at::Tensor& logits,
                                                  const at::Tensor& labels,
                                                  const FocalWanted& wanted) {
  const BandPlan plan(logits, labels, wanted.align_corners);
  const int64_t classes = logits.size(1), pixels = labels.size(1) * labels.size(2);
  const auto absent = weights_in_lanes(wanted.absent_weight, classes, plan.lanes());
  const auto present = weights_in_lanes(wanted.present_weight, classes, plan.lanes());
  at::Tensor of_pixel;
  if (wanted.pixel_weight) of_pixel = wanted.pixel_weight->to(at::kFloat).contiguous();
  std::vector<double> totals(static_cast<size_t>(plan.tasks()));
  auto gradient = plan.for_bands(
      logits, wanted.gradient, [&](const ResizedBand& band, int64_t image, int64_t task) {
        FocalPixels visited{.labels = labels.const_data_ptr<int64_t>() + image * pixels,
                            .absent = absent.data(),
                            .present = present.data(),
                            .pixel_weight = of_pixel.defined()
                                                ? of_pixel.const_data_ptr<float>() + image * pixels
                                                : nullptr,
                            .losses = wanted.losses ? wanted.losses + image * pixels : nullptr,
                            .gamma = static_cast<float>(wanted.gamma),
                            .classes = classes,
                            .lanes = band.lanes,
                            .ignore_index = wanted.ignore_index,
                            .with_gradient = wanted.gradient};
        focal_band({band, visited});
        totals[static_cast<size_t>(task)] = visited.total;
      });
  double sum = 0;
  for (const double total : totals) sum += total;
  return {sum, gradient};
}

std::tuple<at::Tensor, at::Tensor> cpu_resize_focal_loss(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& absent_weight,
    const OptionalTensor& present_weight, const OptionalTensor& pixel_weight, double gamma,
    int64_t ignore_index, bool align_corners, bool with_gradient) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_focal_loss(logits, labels, absent_weight, present_weight, pixel_weight,
                                      gamma, ignore_index, align_corners, with_gradient);
  }
  const auto x = logits.to(at::kFloat);
  const auto [loss, gradient] =
      focal_loss_of_batch(x, labels.to(at::kLong).contiguous(),
                          {absent_weight, present_weight, pixel_weight, gamma, ignore_index,
                           align_corners, with_gradient});
  return {at::full({}, loss, x.options()),
          with_gradient ? gradient.to(logits.scalar_type()) : at::Tensor()};
}

at::Tensor cpu_resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                       const OptionalTensor& absent_weight,
                                       const OptionalTensor& present_weight, double gamma,
                                       int64_t ignore_index, bool align_corners) {
  if (!has_band_kernel(logits, labels)) {
    return composed_resize_pixel_focal_loss(logits, labels, absent_weight, present_weight, gamma,
                                            ignore_index, align_corners);
  }
  const auto x = logits.to(at::kFloat);
  auto out = at::zeros(labels.sizes(), x.options());
  const OptionalTensor none;
  focal_loss_of_batch(x, labels.to(at::kLong).contiguous(),
                      {absent_weight, present_weight, none, gamma, ignore_index, align_corners,
                       /*gradient=*/false, out.mutable_data_ptr<float>()});
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("resize_focal_loss", &cpu_resize_focal_loss);
  m.impl("resize_pixel_focal_loss", &cpu_resize_pixel_focal_loss);
}

}  // namespace seg
