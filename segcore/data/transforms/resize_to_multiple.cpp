#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/resize.hpp"
#include "segcore/image/resize_image.hpp"

namespace seg {

struct ResizeToMultipleParams {
  std::variant<int64_t, WidthHeight> size_divisor = int64_t{32};
  std::optional<std::string> interpolation;
};

namespace {

class ResizeToMultiple final : public Transform {
 public:
  using Params = ResizeToMultipleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Resizes image and labels up to sides that are multiples of a number.")
        .source("MMSegmentation 1.2")
        .optional("size_divisor", &Params::size_divisor,
                  "what both sides shall be multiples of, or one number for the width and one for "
                  "the height",
                  at_least(1))
        .optional("interpolation", &Params::interpolation, "of the image; null is bilinear",
                  one_of({"nearest", "bilinear", "bicubic", "area", "lanczos"}));
  }
  explicit ResizeToMultiple(const Params& p)
      : interpolation_(p.interpolation.value_or("bilinear")) {
    if (const auto* both = std::get_if<int64_t>(&p.size_divisor)) {
      divisor_ = {*both, *both};
    } else {
      divisor_ = std::get<WidthHeight>(p.size_divisor);
    }
  }

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "ResizeToMultiple");
    sample.image =
        resize_image(sample.image, size_of(multiple(sample.image)), interpolation_, "cv2");
    if (!sample.labels.empty()) {
      sample.labels =
          resize_image(sample.labels, size_of(multiple(sample.labels)), "nearest", "cv2");
    }
  }

 private:
  WidthHeight multiple(const cv::Mat& mat) const {
    const auto up = [](int64_t side, int64_t divisor) {
      return (side + divisor - 1) / divisor * divisor;
    };
    return {up(mat.cols, divisor_[0]), up(mat.rows, divisor_[1])};
  }

  WidthHeight divisor_{};
  std::string interpolation_;
};
SEG_REGISTER(Transform, ResizeToMultiple);

}  // namespace
}  // namespace seg
