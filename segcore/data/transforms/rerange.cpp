#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RerangeParams {
  double min_value = 0;
  double max_value = 255;
};

namespace {

class Rerange final : public Transform {
 public:
  using Params = RerangeParams;
  static Schema<Params> schema() {
    return Schema<Params>("Stretches the values of the image to a range, to float32.")
        .source("MMSegmentation 1.2")
        .optional("min_value", &Params::min_value, "what the smallest value becomes")
        .optional("max_value", &Params::max_value, "what the largest value becomes")
        .validate([](const Params& p, Problems& problems) {
          if (p.min_value >= p.max_value) {
            problems.error("max_value",
                           text("must be above min_value, ", p.min_value, ", got ", p.max_value));
          }
        });
  }
  explicit Rerange(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "Rerange");
    double low = 0, high = 0;
    cv::minMaxIdx(sample.image.reshape(1), &low, &high);
    if (low >= high) {
      throw DataError(text(sample_name(sample),
                           ": Rerange cannot stretch an image whose values "
                           "are all ",
                           low));
    }
    const double factor = (p_.max_value - p_.min_value) / (high - low);
    cv::Mat out;
    sample.image.convertTo(out, CV_32F, factor, p_.min_value - low * factor);
    sample.image = out;
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, Rerange);

}  // namespace
}  // namespace seg
