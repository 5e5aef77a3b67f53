#include "segcore/data/transforms/pad.hpp"

#include <algorithm>
#include <opencv2/core.hpp>
#include <optional>

#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct PadParams : PadStyle {
  std::optional<std::array<int64_t, 2>> size;
  std::optional<int64_t> size_divisor;
  bool pad_to_square = false;
};

namespace {

class Pad final : public GeometricTransform {
 public:
  using Params = PadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Pads image and labels at the right and the bottom.")
        .source("MMCV 2.1")
        .optional("size", &Params::size, "width and height to pad to", at_least(1))
        .optional("size_divisor", &Params::size_divisor, "pad to multiples of this", at_least(1))
        .optional("pad_to_square", &Params::pad_to_square, "pad to the longer side")
        .include(PadStyle::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.pad_to_square) {
            if (p.size) problems.error("size", "size and pad_to_square exclude each other");
          } else if (!p.size && !p.size_divisor) {
            problems.error("size", "Pad needs 'size', 'size_divisor' or 'pad_to_square'");
          } else if (p.size && p.size_divisor) {
            problems.error("size_divisor", "size and size_divisor exclude each other");
          }
        });
  }
  explicit Pad(const Params& p) : p_(p) {}

  void plan(Sample& sample, Rng&) const override {
    const cv::Size now = planned_size(sample, "Pad");
    int64_t height = now.height, width = now.width;
    if (p_.size) {
      width = (*p_.size)[0];
      height = (*p_.size)[1];
    }
    if (p_.pad_to_square) height = width = std::max(height, width);
    if (p_.size_divisor) {
      const auto up = [d = *p_.size_divisor](int64_t side) { return (side + d - 1) / d * d; };
      height = up(height);
      width = up(width);
    }
    pad_sample(sample, static_cast<int>(height), static_cast<int>(width), p_);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, Pad);

class PadWarp final : public Warp {
 public:
  PadWarp(const cv::Size& to, std::vector<double> values, std::string mode)
      : to_(to), values_(std::move(values)), mode_(std::move(mode)) {}

  cv::Size size(const cv::Size&) const override { return to_; }
  bool makes_whole(const cv::Size&, int) const override { return mode_ != "constant"; }
  cv::Rect needed(const cv::Size& from, int type, const cv::Rect& part) const override {
    return makes_whole(from, type) ? cv::Rect({}, from) : within(from, part);
  }
  cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const override {
    if (makes_whole(from.whole, from.pixels.type())) return flipped(extended(from)(part), flips);
    cv::Mat out(part.size(), from.pixels.type());
    const cv::Rect inside = part & cv::Rect({}, from.whole);
    if (!inside.empty()) from.pixels(inside - from.origin).copyTo(out(inside - part.tl()));
    fill_rect(out, cv::Rect(inside.width, 0, part.width - inside.width, inside.height), values_,
              "Pad");
    fill_rect(out, cv::Rect(0, inside.height, part.width, part.height - inside.height), values_,
              "Pad");
    return flipped(out, flips);
  }

 private:
  cv::Mat extended(const PictureWindow& from) const {
    const int border = mode_ == "edge"      ? cv::BORDER_REPLICATE
                       : mode_ == "reflect" ? cv::BORDER_REFLECT_101
                                            : cv::BORDER_REFLECT;
    cv::Mat out;
    cv::copyMakeBorder(from.pixels, out, 0, to_.height - from.whole.height, 0,
                       to_.width - from.whole.width, border | cv::BORDER_ISOLATED);
    return out;
  }
  cv::Size to_;
  std::vector<double> values_;
  std::string mode_;
};

}  // namespace

Schema<PadValues> PadValues::schema() {
  return Schema<PadValues>("Values of new pixels.")
      .optional("img", &PadValues::img, "of the image: one for all bands, or one for each")
      .optional("seg", &PadValues::seg, "of the labels");
}

Schema<PadStyle> PadStyle::schema() {
  return Schema<PadStyle>("")
      .optional("pad_val", &PadStyle::pad_val,
                "value of new pixels of the image; or {img: ..., seg: ...} for image and labels")
      .optional(
          "padding_mode", &PadStyle::padding_mode,
          "what new pixels are: a constant, the edge again, or a reflection without (reflect) "
          "or with (symmetric) the edge pixel",
          one_of({"constant", "edge", "reflect", "symmetric"}));
}

Schema<CropPadParams> CropPadParams::schema() {
  return Schema<CropPadParams>("")
      .optional("type", &CropPadParams::type, "the transform that pads", one_of({"Pad"}))
      .accepted("size", "follows from the size of the crop: no effect")
      .accepted("size_divisor", "the size follows from that of the crop: no effect")
      .accepted("pad_to_square", "the size follows from that of the crop: no effect")
      .include(PadStyle::schema());
}

void pad_sample(Sample& sample, int height, int width, const PadStyle& style) {
  PadValues values;
  if (const auto* number = std::get_if<double>(&style.pad_val)) {
    values.img = *number;
  } else {
    values = std::get<PadValues>(style.pad_val);
  }
  std::vector<double> img;
  if (const auto* number = std::get_if<double>(&values.img)) {
    img = {*number};
  } else {
    img = std::get<std::vector<double>>(values.img);
  }
  const auto larger = [](const cv::Size& a, const cv::Size& b) {
    return cv::Size(std::max(a.width, b.width), std::max(a.height, b.height));
  };
  const cv::Size to = larger(planned_size(sample, "Pad"), {width, height});
  plan_pictures(sample, "Pad", [&](Geometry& geometry, const cv::Size& now, PictureKind kind) {
    const cv::Size padded = larger(now, to);
    if (padded == now) return;
    const std::vector<double> border = kind == PictureKind::kImage ? img
                                       : kind == PictureKind::kLabels
                                           ? std::vector{static_cast<double>(values.seg)}
                                           : std::vector{0.0};  // no depth
    geometry.warp(std::make_shared<PadWarp>(padded, border, style.padding_mode));
  });
}

}  // namespace seg
