#include <numeric>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RandomGrayscaleParams {
  double prob = 0.1;
  bool keep_channels = false;
  std::vector<double> channel_weights{1, 1, 1};
  std::string color_format = "bgr";
};

namespace {

class RandomGrayscale final : public Transform {
 public:
  using Params = RandomGrayscaleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Makes the image grey with a probability; the result is uint8.")
        .source("MMCV 2.1")
        .optional("prob", &Params::prob, "probability", in_range(0, 1))
        .optional("keep_channels", &Params::keep_channels,
                  "keep the number of bands, all equal; else there is one")
        .optional("channel_weights", &Params::channel_weights, "of the bands; divided by their sum",
                  at_least(0))
        .optional("color_format", &Params::color_format,
                  "of the image; hsv is turned to BGR in any case", one_of({"bgr", "rgb", "hsv"}))
        .validate([](const Params& p, Problems& problems) {
          if (std::accumulate(p.channel_weights.begin(), p.channel_weights.end(), 0.0) <= 0) {
            problems.error("channel_weights", "the sum must be above 0");
          }
        });
  }
  explicit RandomGrayscale(const Params& p) : p_(p) {
    const double sum = std::accumulate(p_.channel_weights.begin(), p_.channel_weights.end(), 0.0);
    for (double& weight : p_.channel_weights) weight /= sum;
  }

  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "RandomGrayscale");
    require_bytes(sample, "RandomGrayscale");
    const int bands = sample.image.channels();
    if (p_.color_format == "hsv" && bands == 3) {
      cv::Mat bgr;
      cv::cvtColor(sample.image, bgr, cv::COLOR_HSV2BGR);
      sample.image = bgr;
    }
    if (!rng.chance(p_.prob) || bands == 1) return;
    if (static_cast<size_t>(bands) != p_.channel_weights.size()) {
      throw DataError(text(sample_name(sample), ": RandomGrayscale has ", p_.channel_weights.size(),
                           " weights, the image has ", pixel_text(sample.image)));
    }
    const int out_bands = p_.keep_channels ? bands : 1;
    cv::Mat out(sample.image.rows, sample.image.cols, CV_8UC(out_bands));
    for (int y = 0; y < out.rows; ++y) {
      const uint8_t* pixel = sample.image.ptr<uint8_t>(y);
      uint8_t* to = out.ptr<uint8_t>(y);
      for (int x = 0; x < out.cols; ++x) {
        double sum = 0;
        for (const double weight : p_.channel_weights) sum += weight * *pixel++;
        for (int b = 0; b < out_bands; ++b) *to++ = static_cast<uint8_t>(sum);
      }
    }
    sample.image = out;
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, RandomGrayscale);

}  // namespace
}  // namespace seg
