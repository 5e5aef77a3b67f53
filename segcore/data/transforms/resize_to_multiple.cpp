#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/resize.hpp"

namespace seg {

struct ResizeToMultipleParams {
  std::variant<int64_t, WidthHeight> size_divisor = int64_t{32};
  std::optional<std::string> interpolation;
};

namespace {

class ResizeToMultiple final : public GeometricTransform {
 public:
  using Params = ResizeToMultipleParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Resizes images, labels and depth up to sides that are multiples of a number.")
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

  void plan(Sample& sample, Rng&) const override {
    plan_pictures(sample, "ResizeToMultiple",
                  [&](Geometry& geometry, const cv::Size& now, PictureKind kind) {
                    plan_resizing(geometry, now, multiple(now),
                                  kind == PictureKind::kImage ? interpolation_ : "nearest", "cv2");
                  });
  }

 private:
  cv::Size multiple(const cv::Size& size) const {
    const auto up = [](int64_t side, int64_t divisor) {
      return (side + divisor - 1) / divisor * divisor;
    };
    return size_of({up(size.width, divisor_[0]), up(size.height, divisor_[1])});
  }

  WidthHeight divisor_{};
  std::string interpolation_;
};
SEG_REGISTER(Transform, ResizeToMultiple);

}  // namespace
}  // namespace seg
