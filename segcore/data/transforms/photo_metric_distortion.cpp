#include <array>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/distort_colours.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct PhotoMetricDistortionParams {
  double brightness_delta = 32;
  std::array<double, 2> contrast_range{0.5, 1.5};
  std::array<double, 2> saturation_range{0.5, 1.5};
  int64_t hue_delta = 18;
};

namespace {

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
    distort_colours(sample.image, draw(rng));
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
}  // namespace seg
