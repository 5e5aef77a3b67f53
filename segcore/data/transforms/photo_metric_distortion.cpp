#include "segcore/data/transforms/photo_metric_distortion.hpp"

#include <algorithm>
#include <array>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct PhotoMetricDistortionParams {
  double brightness_delta = 32;
  std::array<double, 2> contrast_range{0.5, 1.5};
  std::array<double, 2> saturation_range{0.5, 1.5};
  int64_t hue_delta = 18;
};

namespace {

using ByteTable = std::array<uint8_t, 256>;

/// value * alpha + beta in float32, cut to 0..255, truncated.
ByteTable linear_table(double alpha, double beta) {
  ByteTable table{};
  for (size_t i = 0; i < table.size(); ++i) {
    const float value = static_cast<float>(i) * static_cast<float>(alpha);
    table[i] = static_cast<uint8_t>(std::clamp(value + static_cast<float>(beta), 0.0F, 255.0F));
  }
  return table;
}

ByteTable hue_table(int64_t delta) {
  ByteTable table{};
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<uint8_t>(((static_cast<int64_t>(i) + delta) % 180 + 180) % 180);
  }
  return table;
}

void apply_table_to_band(cv::Mat& pixels, int band, const ByteTable& table) {
  for (int y = 0; y < pixels.rows; ++y) {
    uint8_t* pixel = pixels.ptr<uint8_t>(y) + band;
    for (int x = 0; x < pixels.cols; ++x, pixel += 3) *pixel = table[*pixel];
  }
}

class PhotoMetricDistortion final : public Transform {
 public:
  using Params = PhotoMetricDistortionParams;
  static Schema<Params> schema() {
    const auto rising = [](const char* name, const std::array<double, 2>& range, Problems& out) {
      if (range[0] > range[1]) out.error(name, "the lower bound must not be above the upper one");
    };
    return Schema<Params>(
               "Changes brightness, contrast, saturation and hue, each with a "
               "probability of one half; for 8-bit BGR images.")
        .source("SSD, Liu et al. 2016, arXiv:1512.02325; MMSegmentation 1.2")
        .optional("brightness_delta", &Params::brightness_delta, "largest change, of 0..255",
                  at_least(0))
        .optional("contrast_range", &Params::contrast_range, "bounds of the factor", at_least(0))
        .optional("saturation_range", &Params::saturation_range, "bounds of the factor",
                  at_least(0))
        .optional("hue_delta", &Params::hue_delta, "largest change, in units of two degrees",
                  at_least(0))
        .validate([rising](const Params& p, Problems& problems) {
          rising("contrast_range", p.contrast_range, problems);
          rising("saturation_range", p.saturation_range, problems);
        });
  }
  explicit PhotoMetricDistortion(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "PhotoMetricDistortion");
    if (sample.image.type() != CV_8UC3) {
      throw DataError(text(sample_name(sample),
                           ": PhotoMetricDistortion needs images with 3 bands of uint8, this one "
                           "has ",
                           pixel_text(sample.image), ". Take it out of the pipeline"));
    }
    const Distortion drawn = draw(rng);
    distort_colours(sample.image, drawn);
  }

 private:
  Distortion draw(Rng& rng) const {
    Distortion d;
    if (rng.below(2)) d.brightness = rng.uniform(-p_.brightness_delta, p_.brightness_delta);
    d.contrast_first = rng.below(2) != 0;
    if (rng.below(2)) d.contrast = rng.uniform(p_.contrast_range[0], p_.contrast_range[1]);
    if (rng.below(2)) d.saturation = rng.uniform(p_.saturation_range[0], p_.saturation_range[1]);
    // The upper end is left out, as NumPy's randint does.
    if (rng.below(2)) d.hue = p_.hue_delta ? rng.below(2 * p_.hue_delta) - p_.hue_delta : 0;
    return d;
  }

  Params p_;
};
SEG_REGISTER(Transform, PhotoMetricDistortion);

}  // namespace

void distort_colours(cv::Mat& image, const Distortion& drawn) {
  // Steps on single values become one table; those on hue and saturation go through HSV, and each
  // of them by itself, since the way there and back rounds.
  std::optional<ByteTable> before, after;
  if (drawn.brightness) before = linear_table(1.0, *drawn.brightness);
  if (drawn.contrast) {
    const ByteTable contrast = linear_table(*drawn.contrast, 0.0);
    const bool joins = drawn.contrast_first || (!drawn.saturation && !drawn.hue);
    if (!joins) {
      after = contrast;
    } else if (before) {
      for (uint8_t& value : *before) value = contrast[value];
    } else {
      before = contrast;
    }
  }
  if (!before && !after && !drawn.saturation && !drawn.hue) return;
  make_unique(image);

  std::optional<ByteTable> saturation, hue;
  if (drawn.saturation) saturation = linear_table(*drawn.saturation, 0.0);
  if (drawn.hue) hue = hue_table(*drawn.hue);
  // Some rows at a time, so that all steps find them in the cache.
  const int rows = std::max(1, 32768 / std::max(1, image.cols * 3));
  cv::Mat hsv;
  for (int y = 0; y < image.rows; y += rows) {
    cv::Mat part = image.rowRange(y, std::min(image.rows, y + rows));
    if (before) apply_table(part, *before);
    if (saturation) {
      cv::cvtColor(part, hsv, cv::COLOR_BGR2HSV);
      apply_table_to_band(hsv, 1, *saturation);
      cv::cvtColor(hsv, part, cv::COLOR_HSV2BGR);
    }
    if (hue) {
      cv::cvtColor(part, hsv, cv::COLOR_BGR2HSV);
      apply_table_to_band(hsv, 0, *hue);
      cv::cvtColor(hsv, part, cv::COLOR_HSV2BGR);
    }
    if (after) apply_table(part, *after);
  }
}

}  // namespace seg
