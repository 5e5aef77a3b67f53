// Rows of the labels are taken in bands, a thread each. For each row the two rows of logits around
// it are mixed, and for each pixel the two columns: the classes of one pixel are neighbours in
// memory, so that they are one run of vectors that stays in the first cache. The gradient goes the
// same way back, into a copy of the band's rows of its own; bands are added in order, so that the
// sums do not depend on the number of threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "registry/error.hpp"
#include "segcore/cpu_vector.hpp"
#include "segcore/ops/bilinear_taps.hpp"
#include "segcore/ops/class_runs.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

constexpr int64_t kBandRows = 16;  ///< of the labels
/// The logit of a class that is none: e to its power is 0.
constexpr float kNoClass = -1e30F;

/// Everything that a band needs; rows of maps are [width, lanes].
struct CrossEntropyBand {
  const float* logits;        ///< [rows of the band, width, lanes]
  float* gradient;            ///< [rows of the band, width, lanes], zeros; null: none
  float* losses;              ///< [H, W] of the image, zeros; null: none
  const int64_t* labels;      ///< [H, W] of the image
  const float* class_weight;  ///< may be null
  const float* pixel_weight;  ///< [H, W] of the image, may be null
  const ResizeTaps *rows, *columns;
  int64_t begin, end;  ///< rows of the labels
  int64_t classes, lanes, width, out_width, ignore_index;
  float *row, *row_gradient, *pixel;  ///< scratch: [width, lanes] twice, [lanes]
  double *loss, *weight;
  int64_t *right, *valid;
};

SEG_VECTOR_BODY void mix_rows(const CrossEntropyBand& a, int64_t y) {
  const int64_t size = a.width * a.lanes;
  const int64_t origin = a.rows->first[static_cast<size_t>(a.begin)];
  const float share = a.rows->share[static_cast<size_t>(y)];
  const float* first = a.logits + (a.rows->first[static_cast<size_t>(y)] - origin) * size;
  const float* second = a.logits + (a.rows->second[static_cast<size_t>(y)] - origin) * size;
  for (int64_t i = 0; i < size; i += vec::kLanes) {
    const vec::F8 low = vec::load(first + i);
    vec::store(a.row + i, low + (vec::load(second + i) - low) * share);
  }
}

/// Adds the gradient of a row to those of the two rows that it was mixed from.
SEG_VECTOR_BODY void spread_rows(const CrossEntropyBand& a, int64_t y) {
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

/// Whether no class before the label is as good.
SEG_VECTOR_BODY bool is_first_best(const float* values, int64_t label, float best) {
  if (values[label] < best) return false;
  for (int64_t c = 0; c < label; ++c) {
    if (values[c] == best) return false;
  }
  return true;
}

SEG_VECTOR_BODY void cross_entropy_band_body(const CrossEntropyBand& a) {
  double loss = 0, weights = 0;
  int64_t right = 0, valid = 0;
  for (int64_t y = a.begin; y < a.end; ++y) {
    mix_rows(a, y);
    const int64_t* labels = a.labels + y * a.out_width;
    for (int64_t x = 0; x < a.out_width; ++x) {
      const int64_t label = labels[x];
      if (label == a.ignore_index || label < 0 || label >= a.classes) continue;
      ++valid;
      const float share = a.columns->share[static_cast<size_t>(x)];
      const int64_t first = a.columns->first[static_cast<size_t>(x)] * a.lanes;
      const int64_t second = a.columns->second[static_cast<size_t>(x)] * a.lanes;
      vec::F8 most = vec::all(kNoClass);
      for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
        const vec::F8 low = vec::load(a.row + first + c);
        const vec::F8 value = low + (vec::load(a.row + second + c) - low) * share;
        vec::store(a.pixel + c, value);
        most = vec::max(value, most);
      }
      const float best = vec::max_of(most);
      const float own = a.pixel[label];
      right += is_first_best(a.pixel, label, best) ? 1 : 0;
      vec::F8 sums{};
      for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
        const vec::F8 e = vec::exp_of_negative(vec::load(a.pixel + c) - best);
        vec::store(a.pixel + c, e);
        sums += e;
      }
      const float sum = vec::sum_of(sums);
      const float own_loss = std::log(sum) + best - own;
      if (a.losses) a.losses[y * a.out_width + x] = own_loss;
      float weight = a.class_weight ? a.class_weight[label] : 1.0F;
      weights += weight;
      if (a.pixel_weight) weight *= a.pixel_weight[y * a.out_width + x];
      loss += static_cast<double>(weight) * own_loss;
      if (!a.gradient || weight == 0) continue;
      const float factor = weight / sum;
      // Not by a store to one lane, which the next load of eight would wait for.
      const vec::I8 apart = vec::I8{0, 1, 2, 3, 4, 5, 6, 7} - static_cast<int32_t>(label);
      for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
        const vec::F8 one = apart + static_cast<int32_t>(c) == 0 ? vec::all(weight) : vec::F8{};
        const vec::F8 g = vec::load(a.pixel + c) * factor - one;
        const vec::F8 high = g * share;
        float* low = a.row_gradient + first + c;
        vec::store(low, vec::load(low) + (g - high));
        float* next = a.row_gradient + second + c;
        vec::store(next, vec::load(next) + high);
      }
    }
    if (a.gradient) spread_rows(a, y);
  }
  *a.loss = loss;
  *a.weight = weights;
  *a.right = right;
  *a.valid = valid;
}
SEG_VECTOR_KERNEL(cross_entropy_band, cross_entropy_band_body, CrossEntropyBand)

struct BandPlan {
  ResizeTaps rows, columns;
  int64_t bands, most_rows = 0;
  BandPlan(const at::Tensor& logits, const at::Tensor& labels, bool align_corners)
      : rows(logits.size(2), labels.size(1), align_corners),
        columns(logits.size(3), labels.size(2), align_corners),
        bands((labels.size(1) + kBandRows - 1) / kBandRows) {
    for (int64_t band = 0; band < bands; ++band) {
      most_rows = std::max(most_rows, last_row(band) - first_row(band) + 1);
    }
  }
  int64_t end(int64_t band) const {
    return std::min((band + 1) * kBandRows, static_cast<int64_t>(rows.first.size()));
  }
  /// Of the logits that a band touches.
  int64_t first_row(int64_t band) const {
    return rows.first[static_cast<size_t>(band * kBandRows)];
  }
  int64_t last_row(int64_t band) const { return rows.second[static_cast<size_t>(end(band) - 1)]; }
};

/// Adds the bands' gradients up. \param parts  [N, bands, rows, w, lanes]. \return [N, C, h, w]
at::Tensor joined_bands(const at::Tensor& parts, const BandPlan& plan, at::IntArrayRef shape,
                        int64_t lanes) {
  auto out = at::zeros({shape[0], shape[2], shape[3], lanes}, parts.options());
  const int64_t size = shape[3] * lanes;
  const float* from = parts.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t band = 0; band < plan.bands; ++band) {
        const int64_t first = plan.first_row(band);
        const int64_t values = (plan.last_row(band) - first + 1) * size;
        const float* part = from + (n * plan.bands + band) * plan.most_rows * size;
        float* sum = to + (n * shape[2] + first) * size;
        for (int64_t i = 0; i < values; ++i) sum[i] += part[i];
      }
    }
  });
  return out.narrow(3, 0, shape[1]).permute({0, 3, 1, 2}).contiguous();
}

/// What the bands of a batch come to.
struct BandResults {
  std::vector<double> losses, weights;
  std::vector<int64_t> right, valid;
  at::Tensor gradient;  ///< undefined without one
};

/// What is wanted of them, besides sums.
struct BandsWanted {
  const OptionalTensor &class_weight, &pixel_weight;
  bool gradient = false;
  float* losses = nullptr;  ///< [N, H, W]
};

/// \param labels  int64, contiguous.
BandResults run_bands(const at::Tensor& logits, const at::Tensor& labels, int64_t ignore_index,
                      bool align_corners, const BandsWanted& wanted) {
  const int64_t images = logits.size(0), classes = logits.size(1), height = logits.size(2),
                width = logits.size(3);
  SEG_CHECK(labels.dim() == 3 && labels.size(0) == images, "labels ", labels.sizes(),
            " do not fit logits ", logits.sizes());
  const int64_t lanes = class_lanes(classes);
  const BandPlan plan(logits, labels, align_corners);
  const at::Tensor whole = logits.contiguous();
  at::Tensor parts;
  if (wanted.gradient) {
    parts = at::empty({images, plan.bands, plan.most_rows, width, lanes}, logits.options());
  }
  const auto plain = [](const OptionalTensor& weight) {
    return weight ? weight->to(at::kFloat).contiguous() : at::Tensor();
  };
  const at::Tensor of_class = plain(wanted.class_weight), of_pixel = plain(wanted.pixel_weight);
  const auto tasks = static_cast<size_t>(images * plan.bands);
  BandResults out{std::vector<double>(tasks),
                  std::vector<double>(tasks),
                  std::vector<int64_t>(tasks),
                  std::vector<int64_t>(tasks),
                  {}};
  const int64_t pixels = labels.size(1) * labels.size(2);
  at::parallel_for(0, images * plan.bands, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(width * lanes)), row_gradient(row.size());
    std::vector<float> together(static_cast<size_t>(plan.most_rows) * row.size());
    std::vector<float> pixel(static_cast<size_t>(lanes));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / plan.bands, band = task % plan.bands;
      const auto slot = static_cast<size_t>(task);
      float* gradient = nullptr;
      if (wanted.gradient) {
        const int64_t size = plan.most_rows * width * lanes;
        gradient = parts.mutable_data_ptr<float>() + task * size;
        std::fill_n(gradient, size, 0.0F);
      }
      const int64_t first = plan.first_row(band);
      put_classes_together(
          whole.const_data_ptr<float>() + (image * classes * height + first) * width,
          height * width, classes, plan.last_row(band) - first + 1, width, lanes, kNoClass,
          together.data());
      cross_entropy_band({
          .logits = together.data(),
          .gradient = gradient,
          .losses = wanted.losses ? wanted.losses + image * pixels : nullptr,
          .labels = labels.const_data_ptr<int64_t>() + image * pixels,
          .class_weight = wanted.class_weight ? of_class.const_data_ptr<float>() : nullptr,
          .pixel_weight =
              wanted.pixel_weight ? of_pixel.const_data_ptr<float>() + image * pixels : nullptr,
          .rows = &plan.rows,
          .columns = &plan.columns,
          .begin = band * kBandRows,
          .end = plan.end(band),
          .classes = classes,
          .lanes = lanes,
          .width = width,
          .out_width = labels.size(2),
          .ignore_index = ignore_index,
          .row = row.data(),
          .row_gradient = row_gradient.data(),
          .pixel = pixel.data(),
          .loss = &out.losses[slot],
          .weight = &out.weights[slot],
          .right = &out.right[slot],
          .valid = &out.valid[slot],
      });
    }
  });
  if (wanted.gradient) out.gradient = joined_bands(parts, plan, logits.sizes(), lanes);
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cpu_resize_cross_entropy(
    const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& class_weight,
    const OptionalTensor& pixel_weight, int64_t ignore_index, bool align_corners,
    bool with_gradient) {
  if (at::isReducedFloatingType(logits.scalar_type())) {
    auto [loss, weight, counts, gradient] =
        cpu_resize_cross_entropy(logits.to(at::kFloat), labels, class_weight, pixel_weight,
                                 ignore_index, align_corners, with_gradient);
    if (with_gradient) gradient = gradient.to(logits.scalar_type());
    return {loss, weight, counts, gradient};
  }
  if (logits.scalar_type() != at::kFloat || labels.numel() == 0) {
    return composed_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                         align_corners, with_gradient);
  }
  const auto found = run_bands(logits, labels.to(at::kLong).contiguous(), ignore_index,
                               align_corners, {class_weight, pixel_weight, with_gradient});
  const auto sum = [](const auto& values) {
    return std::accumulate(values.begin(), values.end(), values[0] - values[0]);
  };
  return {at::full({}, sum(found.losses), logits.options()),
          at::full({}, sum(found.weights), logits.options()),
          at::tensor({sum(found.right), sum(found.valid)}, at::kLong), found.gradient};
}

at::Tensor cpu_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                          int64_t ignore_index, bool align_corners) {
  if (at::isReducedFloatingType(logits.scalar_type())) {
    return cpu_resize_pixel_cross_entropy(logits.to(at::kFloat), labels, ignore_index,
                                          align_corners);
  }
  if (logits.scalar_type() != at::kFloat || labels.numel() == 0) {
    return composed_resize_pixel_cross_entropy(logits, labels, ignore_index, align_corners);
  }
  const auto out = at::zeros(labels.sizes(), logits.options());
  const OptionalTensor none;
  run_bands(logits, labels.to(at::kLong).contiguous(), ignore_index, align_corners,
            {none, none, /*gradient=*/false, out.mutable_data_ptr<float>()});
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("resize_cross_entropy", &cpu_resize_cross_entropy);
  m.impl("resize_pixel_cross_entropy", &cpu_resize_pixel_cross_entropy);
}

}  // namespace seg
