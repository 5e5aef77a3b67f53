#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct Rgb2GrayParams {
  std::optional<int64_t> out_channels;
  std::vector<double> weights{0.299, 0.587, 0.114};
};

namespace {

class RGB2Gray final : public Transform {
 public:
  using Params = Rgb2GrayParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Replaces the bands by their weighted sum, to float32. The weights are "
               "taken in the order of the image's bands, which is BGR, as there.")
        .source("MMSegmentation 1.2")
        .optional("out_channels", &Params::out_channels,
                  "how many equal bands to make; null is as many as there were", at_least(1))
        .optional("weights", &Params::weights, "of the bands");
  }
  explicit RGB2Gray(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "RGB2Gray");
    const int bands = sample.image.channels();
    if (static_cast<size_t>(bands) != p_.weights.size()) {
      throw DataError(text(sample_name(sample), ": RGB2Gray has ", p_.weights.size(),
                           " weights, the image has ", pixel_text(sample.image)));
    }
    cv::Mat from;
    sample.image.convertTo(from, CV_32F);
    const int out_bands = p_.out_channels ? static_cast<int>(*p_.out_channels) : bands;
    cv::Mat out(from.rows, from.cols, CV_32FC(out_bands));
    for (int y = 0; y < from.rows; ++y) {
      const float* pixel = from.ptr<float>(y);
      float* to = out.ptr<float>(y);
      for (int x = 0; x < from.cols; ++x) {
        double sum = 0;
        for (const double weight : p_.weights) sum += weight * static_cast<double>(*pixel++);
        for (int b = 0; b < out_bands; ++b) *to++ = static_cast<float>(sum);
      }
    }
    sample.image = out;
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, RGB2Gray);

}  // namespace
}  // namespace seg
