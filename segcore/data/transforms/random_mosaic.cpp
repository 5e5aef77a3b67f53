#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/resize.hpp"
#include "segcore/image/resize_image.hpp"

namespace seg {

struct RandomMosaicParams {
  double prob = 0;
  std::array<int64_t, 2> img_scale{640, 640};
  std::array<double, 2> center_ratio_range{0.5, 1.5};
  double pad_val = 0;
  double seg_pad_val = 255;
};

namespace {

/// Where one of four images comes to lie: a corner of it at the centre of the mosaic.
struct MosaicPatch {
  cv::Rect paste, crop;
};

/// \param part  0 to 3: top left, top right, bottom left, bottom right.
MosaicPatch mosaic_patch(int part, cv::Point center, cv::Size image, cv::Size mosaic) {
  const bool right = part % 2 == 1, bottom = part >= 2;
  const int width = std::min(image.width, right ? mosaic.width - center.x : center.x);
  const int height = std::min(image.height, bottom ? mosaic.height - center.y : center.y);
  return {
      {right ? center.x : center.x - width, bottom ? center.y : center.y - height, width, height},
      {right ? 0 : image.width - width, bottom ? 0 : image.height - height, width, height}};
}

class RandomMosaic final : public Transform {
 public:
  using Params = RandomMosaicParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Joins four samples around a random point to an image of twice the size. Belongs "
               "into the pipeline of a MultiImageMixDataset.")
        .source("Bochkovskiy et al. 2020, YOLOv4, arXiv:2004.10934; MMSegmentation 1.2")
        .required("prob", &Params::prob, "probability of a mosaic", in_range(0, 1))
        .optional("img_scale", &Params::img_scale,
                  "height and width that each image is fitted into; the mosaic is twice as high "
                  "and wide",
                  at_least(1))
        .optional("center_ratio_range", &Params::center_ratio_range,
                  "bounds of the point where the four meet, in units of img_scale", in_range(0, 2))
        .optional("pad_val", &Params::pad_val, "value where no image lies, in all bands")
        .optional("seg_pad_val", &Params::seg_pad_val, "value of the labels there",
                  in_range(0, 255));
  }
  explicit RandomMosaic(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.mixes = true}; }
  int64_t draw_others(Rng& rng) const override { return rng.chance(p_.prob) ? 3 : 0; }
  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "RandomMosaic");
    if (sample.others.empty()) return;
    const auto drawn = [&](int64_t side) {
      const auto& [low, high] = p_.center_ratio_range;
      return static_cast<int>(rng.uniform(low, high) * static_cast<double>(side));
    };
    const int x = drawn(p_.img_scale[1]), y = drawn(p_.img_scale[0]);
    const auto join = [&](cv::Mat Sample::*map, double value, const std::string& interpolation) {
      if ((sample.*map).empty()) return;
      sample.*map = mosaic(sample, map, {x, y}, value, interpolation);
    };
    join(&Sample::image, p_.pad_val, "bilinear");
    join(&Sample::labels, p_.seg_pad_val, "nearest");
    join(&Sample::depth, 0, "nearest");
    sample.meta.ori_shape = sample.meta.img_shape = {sample.image.rows, sample.image.cols};
  }

 private:
  cv::Mat mosaic(const Sample& sample, cv::Mat Sample::*map, cv::Point center, double value,
                 const std::string& interpolation) const {
    const cv::Mat& first = sample.*map;
    cv::Mat out(static_cast<int>(2 * p_.img_scale[0]), static_cast<int>(2 * p_.img_scale[1]),
                first.type());
    fill_rect(out, {0, 0, out.cols, out.rows}, {value}, "RandomMosaic");
    for (int part = 0; part < 4; ++part) {
      const Sample& from = part == 0 ? sample : sample.others.at(static_cast<size_t>(part - 1));
      if ((from.*map).type() != first.type()) {
        throw DataError(text(sample_name(from), ": RandomMosaic cannot join ",
                             pixel_text(from.*map), " with ", pixel_text(first), " of ",
                             sample_name(sample)));
      }
      const cv::Mat fitted = fit(from.*map, interpolation);
      const MosaicPatch patch = mosaic_patch(part, center, fitted.size(), out.size());
      fitted(patch.crop).copyTo(out(patch.paste));
    }
    return out;
  }
  cv::Mat fit(const cv::Mat& mat, const std::string& interpolation) const {
    const double factor = std::min(static_cast<double>(p_.img_scale[0]) / mat.rows,
                                   static_cast<double>(p_.img_scale[1]) / mat.cols);
    const auto scaled = [&](int side) { return std::max(1, static_cast<int>(side * factor)); };
    return resize_image(mat, {scaled(mat.cols), scaled(mat.rows)}, interpolation, "cv2");
  }

  Params p_;
};
SEG_REGISTER(Transform, RandomMosaic);

}  // namespace
}  // namespace seg
