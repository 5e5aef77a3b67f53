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

class Pad final : public Transform {
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

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "Pad");
    int64_t height = sample.image.rows, width = sample.image.cols;
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

void pad_mat(cv::Mat& mat, int height, int width, const std::vector<double>& values,
             const std::string& mode) {
  height = std::max(height, mat.rows);
  width = std::max(width, mat.cols);
  if (height == mat.rows && width == mat.cols) return;
  if (mode == "constant") {
    cv::Mat out(height, width, mat.type());
    mat.copyTo(out(cv::Rect(0, 0, mat.cols, mat.rows)));
    fill_rect(out, cv::Rect(mat.cols, 0, width - mat.cols, mat.rows), values, "Pad");
    fill_rect(out, cv::Rect(0, mat.rows, width, height - mat.rows), values, "Pad");
    mat = out;
    return;
  }
  const int border = mode == "edge"      ? cv::BORDER_REPLICATE
                     : mode == "reflect" ? cv::BORDER_REFLECT_101
                                         : cv::BORDER_REFLECT;
  cv::Mat out;
  cv::copyMakeBorder(mat, out, 0, height - mat.rows, 0, width - mat.cols,
                     border | cv::BORDER_ISOLATED);
  mat = out;
}

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
  pad_mat(sample.image, height, width, img, style.padding_mode);
  if (!sample.image2.empty()) pad_mat(sample.image2, height, width, img, style.padding_mode);
  // Depth 0 is none.
  if (!sample.depth.empty()) pad_mat(sample.depth, height, width, {0}, style.padding_mode);
  if (!sample.labels.empty()) {
    pad_mat(sample.labels, sample.image.rows, sample.image.cols, {static_cast<double>(values.seg)},
            style.padding_mode);
  }
}

}  // namespace seg
