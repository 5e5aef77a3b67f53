#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct NormalizeParams {
  std::vector<double> mean, std;
  bool to_rgb = true;
};

namespace {

class Normalize final : public Transform {
 public:
  using Params = NormalizeParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Subtracts a mean and divides by a deviation, band by band, to float32. "
               "The data_preprocessor does the same for whole batches.")
        .source("MMCV 2.1")
        .required("mean", &Params::mean, "of each band, in the order after to_rgb")
        .required("std", &Params::std, "of each band, in the order after to_rgb", above(0))
        .optional("to_rgb", &Params::to_rgb, "turn BGR to RGB before")
        .validate([](const Params& p, Problems& problems) {
          if (p.mean.size() != p.std.size()) {
            problems.error("std", text("expected as many values as mean has, ", p.mean.size(),
                                       ", got ", p.std.size()));
          }
          if (p.to_rgb && p.mean.size() != 3) {
            problems.error("to_rgb", text("only 3 bands can be turned to RGB, mean has ",
                                          p.mean.size(), ": set to_rgb: false"));
          }
        });
  }
  explicit Normalize(const Params& p) : swap_(p.to_rgb) {
    for (size_t i = 0; i < p.mean.size(); ++i) {
      mean_.push_back(static_cast<float>(p.mean[i]));
      // The inverse of the float32 value in double, then rounded: as MMCV computes it.
      factor_.push_back(
          static_cast<float>(1.0 / static_cast<double>(static_cast<float>(p.std[i]))));
    }
  }

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "Normalize");
    const int bands = sample.image.channels();
    if (static_cast<size_t>(bands) != mean_.size()) {
      throw DataError(text(sample_name(sample), ": Normalize has a mean for ", mean_.size(),
                           " bands, the image has ", pixel_text(sample.image)));
    }
    cv::Mat out;
    sample.image.convertTo(out, CV_32F);
    for (int y = 0; y < out.rows; ++y) {
      float* pixel = out.ptr<float>(y);
      for (int x = 0; x < out.cols; ++x, pixel += bands) {
        if (swap_) std::swap(pixel[0], pixel[2]);
        for (int b = 0; b < bands; ++b) {
          pixel[b] = (pixel[b] - mean_[static_cast<size_t>(b)]) * factor_[static_cast<size_t>(b)];
        }
      }
    }
    sample.image = out;
  }

 private:
  std::vector<float> mean_, factor_;
  bool swap_;
};
SEG_REGISTER(Transform, Normalize);

}  // namespace
}  // namespace seg
