#include "segcore/ops/resized_bands.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

namespace seg {
namespace {

constexpr int64_t kBandRows = 16;  ///< of the labels

}  // namespace

bool has_band_kernel(const at::Tensor& logits, const at::Tensor& labels) {
  const auto type = logits.scalar_type();
  const bool float_kernel = type == at::kFloat || at::isReducedFloatingType(type);
  // Eight lanes for one or two classes cost more than a map that is not resized.
  constexpr int64_t kFewClasses = 4;
  const bool resized = logits.sizes().slice(2) != labels.sizes().slice(1);
  return float_kernel && logits.numel() > 0 && labels.numel() > 0 &&
         (resized || logits.size(1) >= kFewClasses);
}

BandPlan::BandPlan(const at::Tensor& logits, const at::Tensor& labels, bool align_corners)
    : images_(logits.size(0)),
      lanes_(class_lanes(logits.size(1))),
      rows_(logits.size(2), labels.size(1), align_corners),
      columns_(logits.size(3), labels.size(2), align_corners),
      bands_((labels.size(1) + kBandRows - 1) / kBandRows) {
  for (int64_t band = 0; band < bands_; ++band) {
    most_rows_ = std::max(most_rows_, last_row(band) - first_row(band) + 1);
  }
}

int64_t BandPlan::end(int64_t band) const {
  return std::min((band + 1) * kBandRows, static_cast<int64_t>(rows_.first.size()));
}
int64_t BandPlan::first_row(int64_t band) const {
  return rows_.first[static_cast<size_t>(band * kBandRows)];
}
int64_t BandPlan::last_row(int64_t band) const {
  return rows_.second[static_cast<size_t>(end(band) - 1)];
}

at::Tensor BandPlan::for_bands(const at::Tensor& logits, bool with_gradient,
                               const Visit& visit) const {
  const int64_t classes = logits.size(1), height = logits.size(2), width = logits.size(3);
  const at::Tensor whole = logits.contiguous();
  at::Tensor parts;
  if (with_gradient) {
    parts = at::empty({images_, bands_, most_rows_, width, lanes_}, logits.options());
  }
  at::parallel_for(0, tasks(), 1, [&](int64_t begin, int64_t end_task) {
    std::vector<float> row(static_cast<size_t>(width * lanes_)), row_gradient(row.size());
    std::vector<float> together(static_cast<size_t>(most_rows_) * row.size());
    std::vector<float> pixel(static_cast<size_t>(lanes_));
    for (int64_t task = begin; task < end_task; ++task) {
      const int64_t image = task / bands_, band = task % bands_, first = first_row(band);
      float* gradient = nullptr;
      if (with_gradient) {
        const int64_t size = most_rows_ * width * lanes_;
        gradient = parts.mutable_data_ptr<float>() + task * size;
        std::fill_n(gradient, size, 0.0F);
      }
      put_classes_together(
          whole.const_data_ptr<float>() + (image * classes * height + first) * width,
          height * width, classes, last_row(band) - first + 1, width, lanes_, kNoClass,
          together.data());
      visit({.logits = together.data(),
             .gradient = gradient,
             .rows = &rows_,
             .columns = &columns_,
             .begin = band * kBandRows,
             .end = end(band),
             .lanes = lanes_,
             .width = width,
             .out_width = static_cast<int64_t>(columns_.first.size()),
             .row = row.data(),
             .row_gradient = row_gradient.data(),
             .pixel = pixel.data()},
            image, task);
    }
  });
  return with_gradient ? joined(parts, logits.sizes()) : at::Tensor();
}

/// Adds the bands' gradients up. \param parts  [N, bands, rows, w, lanes]. \return [N, C, h, w]
at::Tensor BandPlan::joined(const at::Tensor& parts, at::IntArrayRef shape) const {
  auto out = at::zeros({shape[0], shape[2], shape[3], lanes_}, parts.options());
  const int64_t size = shape[3] * lanes_;
  const float* from = parts.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, images_, 1, [&](int64_t begin, int64_t end_image) {
    for (int64_t n = begin; n < end_image; ++n) {
      for (int64_t band = 0; band < bands_; ++band) {
        const int64_t first = first_row(band);
        const int64_t values = (last_row(band) - first + 1) * size;
        const float* part = from + (n * bands_ + band) * most_rows_ * size;
        float* sum = to + (n * shape[2] + first) * size;
        for (int64_t i = 0; i < values; ++i) sum[i] += part[i];
      }
    }
  });
  return out.narrow(3, 0, shape[1]).permute({0, 3, 1, 2}).contiguous();
}

}  // namespace seg
