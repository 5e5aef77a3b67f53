#include <algorithm>
#include <cmath>

#include "segcore/data/transforms/pad.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/random_crop.hpp"

namespace seg {

struct CenterCropParams {
  std::variant<int64_t, std::array<int64_t, 2>> crop_size = int64_t{0};
  bool auto_pad = false;
  CropPadParams pad_cfg;
};

namespace {

class CenterCrop final : public GeometricTransform {
 public:
  using Params = CenterCropParams;
  static Schema<Params> schema() {
    return Schema<Params>("Cuts the middle out of image and labels.")
        .source("MMCV 2.1")
        .required("crop_size", &Params::crop_size, "width and height, or one number for both",
                  at_least(1))
        .optional("auto_pad", &Params::auto_pad, "pad what is smaller; else it stays smaller")
        .optional("pad_cfg", &Params::pad_cfg, "with which values auto_pad pads")
        .accepted("clip_object_border", "of boxes, which are not read here: no effect");
  }
  explicit CenterCrop(const Params& p) : auto_pad_(p.auto_pad), pad_(p.pad_cfg) {
    if (const auto* side = std::get_if<int64_t>(&p.crop_size)) {
      width_ = height_ = static_cast<int>(*side);
    } else {
      const auto& sides = std::get<std::array<int64_t, 2>>(p.crop_size);
      width_ = static_cast<int>(sides[0]);
      height_ = static_cast<int>(sides[1]);
    }
  }

  void plan(Sample& sample, Rng&) const override {
    cv::Size now = planned_size(sample, "CenterCrop");
    if (auto_pad_ && (height_ > now.height || width_ > now.width)) {
      now = {std::max(width_, now.width), std::max(height_, now.height)};
      pad_sample(sample, now.height, now.width, pad_);
    }
    const int height = std::min(height_, now.height);
    const int width = std::min(width_, now.width);
    // Halves round to even, as Python's round does.
    const int y = static_cast<int>(std::nearbyint((now.height - height) / 2.0));
    const int x = static_cast<int>(std::nearbyint((now.width - width) / 2.0));
    crop_sample(sample, cv::Rect(x, y, width, height));
  }

 private:
  int height_ = 0, width_ = 0;
  bool auto_pad_;
  CropPadParams pad_;
};
SEG_REGISTER(Transform, CenterCrop);

}  // namespace
}  // namespace seg
