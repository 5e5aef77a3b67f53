/// Albumentations that move pixels: image, labels and depth alike.
#include <cmath>
#include <numbers>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/albu.hpp"

namespace seg {

struct AlbuMoveParams : AlbuParams {};

/// How pixels between and beyond those of the image are made; OpenCV's numbers, as in Python.
struct AlbuWarpParams : AlbuParams {
  int64_t interpolation = 1;
  int64_t border_mode = 4;
  std::optional<std::variant<double, std::vector<double>>> value, mask_value;
};

struct AlbuRotateParams : AlbuWarpParams {
  AlbuLimit limit = 90.0;
  bool crop_border = false;
};

struct AlbuShiftScaleRotateParams : AlbuWarpParams {
  AlbuLimit shift_limit = 0.0625, scale_limit = 0.1, rotate_limit = 45.0;
  std::optional<AlbuLimit> shift_limit_x, shift_limit_y;
};

namespace {

/// Calls `move` for each picture of the sample.
void move_all(Sample& sample, const std::function<void(cv::Mat&, bool labels)>& move) {
  for (cv::Mat* image : {&sample.image, &sample.image2}) {
    if (!image->empty()) move(*image, false);
  }
  for (cv::Mat* map : {&sample.labels, &sample.edges, &sample.depth}) {
    if (!map->empty()) move(*map, true);
  }
}

void flip_all(Sample& sample, int code) {
  move_all(sample, [code](cv::Mat& picture, bool) {
    cv::Mat out;
    cv::flip(picture, out, code);
    picture = out;
  });
}

class AlbuHorizontalFlip final : public AlbuTransform {
 public:
  using Params = AlbuMoveParams;
  static Schema<Params> schema() { return albu_schema<Params>("Mirrors left and right."); }
  explicit AlbuHorizontalFlip(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng&) const override { flip_all(sample, 1); }
};
SEG_REGISTER_AS(AlbuTransform, AlbuHorizontalFlip, "HorizontalFlip");

class AlbuVerticalFlip final : public AlbuTransform {
 public:
  using Params = AlbuMoveParams;
  static Schema<Params> schema() { return albu_schema<Params>("Mirrors top and bottom."); }
  explicit AlbuVerticalFlip(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng&) const override { flip_all(sample, 0); }
};
SEG_REGISTER_AS(AlbuTransform, AlbuVerticalFlip, "VerticalFlip");

class AlbuFlip final : public AlbuTransform {
 public:
  using Params = AlbuMoveParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Mirrors left and right, top and bottom, or both.");
  }
  explicit AlbuFlip(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng& rng) const override {
    flip_all(sample, static_cast<int>(rng.below(3)) - 1);
  }
};
SEG_REGISTER_AS(AlbuTransform, AlbuFlip, "Flip");

class AlbuTranspose final : public AlbuTransform {
 public:
  using Params = AlbuMoveParams;
  static Schema<Params> schema() { return albu_schema<Params>("Swaps rows and columns."); }
  explicit AlbuTranspose(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng&) const override {
    move_all(sample, [](cv::Mat& picture, bool) {
      cv::Mat out;
      cv::transpose(picture, out);
      picture = out;
    });
  }
};
SEG_REGISTER_AS(AlbuTransform, AlbuTranspose, "Transpose");

class AlbuRandomRotate90 final : public AlbuTransform {
 public:
  using Params = AlbuMoveParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Turns by none to three quarters, counter-clockwise.");
  }
  explicit AlbuRandomRotate90(const Params& p) : AlbuTransform(p) {}
  void apply(Sample& sample, Rng& rng) const override {
    const int64_t quarters = rng.below(4);
    if (quarters == 0) return;
    const int code = quarters == 1   ? cv::ROTATE_90_COUNTERCLOCKWISE
                     : quarters == 2 ? cv::ROTATE_180
                                     : cv::ROTATE_90_CLOCKWISE;
    move_all(sample, [code](cv::Mat& picture, bool) {
      cv::Mat out;
      cv::rotate(picture, out, code);
      picture = out;
    });
  }
};
SEG_REGISTER_AS(AlbuTransform, AlbuRandomRotate90, "RandomRotate90");

template <class P>
Schema<P> albu_warp_schema(const std::string& summary) {
  return albu_schema<P>(summary)
      .optional("interpolation", &P::interpolation,
                "of the image: 0 nearest, 1 linear, 2 cubic, 3 area, 4 Lanczos; labels are nearest",
                in_range(0, 4))
      .optional("border_mode", &P::border_mode,
                "what comes from outside: 0 a constant, 1 the edge, 2 a reflection with the edge, "
                "3 the other side, 4 a reflection without the edge",
                in_range(0, 4))
      .optional("value", &P::value, "the constant, red, green and blue or one for all; null is 0")
      .optional("mask_value", &P::mask_value, "the constant of the labels; null is 0")
      .accepted("rotate_method", "of boxes, which are not read here: no effect");
}

cv::Scalar albu_border(const std::optional<std::variant<double, std::vector<double>>>& value) {
  if (!value) return {};
  if (const auto* one = std::get_if<double>(&*value)) return cv::Scalar(*one);
  cv::Scalar out;
  const auto& values = std::get<std::vector<double>>(*value);
  for (size_t i = 0; i < std::min<size_t>(4, values.size()); ++i)
    out[static_cast<int>(i)] = values[i];
  if (values.size() == 3) std::swap(out[0], out[2]);  // images are BGR
  return out;
}

/// Warps all pictures about the middle of the image.
void warp_all(Sample& sample, const AlbuWarpParams& p, double angle, double scale, double dx,
              double dy) {
  const int width = sample.image.cols, height = sample.image.rows;
  const cv::Point2f center(static_cast<float>(width / 2.0 - 0.5),
                           static_cast<float>(height / 2.0 - 0.5));
  cv::Mat matrix = cv::getRotationMatrix2D(center, angle, scale);
  matrix.at<double>(0, 2) += dx * width;
  matrix.at<double>(1, 2) += dy * height;
  move_all(sample, [&](cv::Mat& picture, bool labels) {
    // OpenCV warps int32 only as float, which holds class ids exactly.
    const bool as_float = picture.depth() == CV_32S;
    cv::Mat from = picture, out;
    if (as_float) picture.convertTo(from, CV_32F);
    cv::warpAffine(from, out, matrix, {width, height},
                   labels ? cv::INTER_NEAREST : static_cast<int>(p.interpolation),
                   static_cast<int>(p.border_mode), albu_border(labels ? p.mask_value : p.value));
    if (as_float) out.convertTo(out, CV_32S);
    picture = out;
  });
}

/// The largest upright rectangle inside of an image that was rotated about its middle.
cv::Rect rect_inside_rotated(int height, int width, double degrees) {
  const double angle = degrees * std::numbers::pi / 180;
  const double sin = std::abs(std::sin(angle)), cos = std::abs(std::cos(angle));
  const bool wide = width >= height;
  const double longer = wide ? width : height, shorter = wide ? height : width;
  double w = 0, h = 0;
  if (shorter <= 2 * sin * cos * longer || std::abs(sin - cos) < 1e-10) {
    // Two corners lie on the longer side.
    w = 0.5 * shorter / (wide ? sin : cos);
    h = 0.5 * shorter / (wide ? cos : sin);
  } else {
    const double double_cos = cos * cos - sin * sin;
    w = (width * cos - height * sin) / double_cos;
    h = (height * cos - width * sin) / double_cos;
  }
  const int x0 = std::max(0, static_cast<int>(width / 2.0 - w / 2)),
            x1 = std::min(width, static_cast<int>(width / 2.0 + w / 2)),
            y0 = std::max(0, static_cast<int>(height / 2.0 - h / 2)),
            y1 = std::min(height, static_cast<int>(height / 2.0 + h / 2));
  return {x0, y0, std::max(1, x1 - x0), std::max(1, y1 - y0)};
}

class AlbuRotate final : public AlbuTransform {
 public:
  using Params = AlbuRotateParams;
  static Schema<Params> schema() {
    return albu_warp_schema<Params>("Rotates about the middle.")
        .optional("limit", &Params::limit, "bounds of the angle in degrees, counter-clockwise")
        .optional("crop_border", &Params::crop_border,
                  "keep only the largest rectangle that has nothing from outside");
  }
  explicit AlbuRotate(const Params& p) : AlbuTransform(p), p_(p), range_(albu_range(p.limit)) {}
  void apply(Sample& sample, Rng& rng) const override {
    const double angle = rng.uniform(range_[0], range_[1]);
    const cv::Rect inside = rect_inside_rotated(sample.image.rows, sample.image.cols, angle);
    warp_all(sample, p_, angle, 1, 0, 0);
    if (!p_.crop_border) return;
    move_all(sample, [&](cv::Mat& picture, bool) { picture = picture(inside).clone(); });
  }

 private:
  Params p_;
  std::array<double, 2> range_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuRotate, "Rotate");

class AlbuShiftScaleRotate final : public AlbuTransform {
 public:
  using Params = AlbuShiftScaleRotateParams;
  static Schema<Params> schema() {
    return albu_warp_schema<Params>("Shifts, scales and rotates about the middle.")
        .optional("shift_limit", &Params::shift_limit,
                  "bounds of the shift, as a share of width and height")
        .optional("scale_limit", &Params::scale_limit, "bounds of the factor less 1")
        .optional("rotate_limit", &Params::rotate_limit,
                  "bounds of the angle in degrees, counter-clockwise")
        .optional("shift_limit_x", &Params::shift_limit_x, "shift_limit of the width; null: that")
        .optional("shift_limit_y", &Params::shift_limit_y, "shift_limit of the height; null: that");
  }
  explicit AlbuShiftScaleRotate(const Params& p)
      : AlbuTransform(p),
        p_(p),
        x_(albu_range(p.shift_limit_x.value_or(p.shift_limit))),
        y_(albu_range(p.shift_limit_y.value_or(p.shift_limit))),
        scale_(albu_range(p.scale_limit)),
        angle_(albu_range(p.rotate_limit)) {}
  void apply(Sample& sample, Rng& rng) const override {
    const double angle = rng.uniform(angle_[0], angle_[1]);
    const double scale = 1 + rng.uniform(scale_[0], scale_[1]);
    const double dx = rng.uniform(x_[0], x_[1]), dy = rng.uniform(y_[0], y_[1]);
    warp_all(sample, p_, angle, scale, dx, dy);
  }

 private:
  Params p_;
  std::array<double, 2> x_, y_, scale_, angle_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuShiftScaleRotate, "ShiftScaleRotate");

}  // namespace
}  // namespace seg
