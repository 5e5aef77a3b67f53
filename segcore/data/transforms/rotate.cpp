#include "segcore/data/transforms/rotate.hpp"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <vector>

#include "segcore/data/transforms/pixels.hpp"

namespace seg {
namespace {

/// The matrix of a rotation, and the size that it leads to.
struct Turned {
  cv::Matx23d matrix;
  cv::Size size;
};

Turned turned(const Rotation& rotation, const cv::Size& from) {
  double width = from.width, height = from.height;
  const cv::Point2f center = rotation.center
                                 ? cv::Point2f(static_cast<float>((*rotation.center)[0]),
                                               static_cast<float>((*rotation.center)[1]))
                                 : cv::Point2f(static_cast<float>((width - 1) * 0.5),
                                               static_cast<float>((height - 1) * 0.5));
  cv::Matx23d matrix = cv::getRotationMatrix2D(center, -rotation.angle, 1.0);
  if (rotation.auto_bound) {
    const double cos = std::abs(matrix(0, 0)), sin = std::abs(matrix(0, 1));
    const double new_width = height * sin + width * cos, new_height = height * cos + width * sin;
    matrix(0, 2) += (new_width - width) * 0.5;
    matrix(1, 2) += (new_height - height) * 0.5;
    width = std::nearbyint(new_width);
    height = std::nearbyint(new_height);
  }
  return {matrix, {static_cast<int>(width), static_cast<int>(height)}};
}

/// The way back, by the arithmetic of cv::warpAffine.
cv::Matx23d inverse(const cv::Matx23d& m) {
  double d = m(0, 0) * m(1, 1) - m(0, 1) * m(1, 0);
  d = d != 0 ? 1. / d : 0;
  cv::Matx23d out;
  out(0, 0) = m(1, 1) * d;
  out(0, 1) = m(0, 1) * -d;
  out(1, 0) = m(1, 0) * -d;
  out(1, 1) = m(0, 0) * d;
  out(0, 2) = -out(0, 0) * m(0, 2) - out(0, 1) * m(1, 2);
  out(1, 2) = -out(1, 0) * m(0, 2) - out(1, 1) * m(1, 2);
  return out;
}

/// Where pixels come from, in the fixed point of cv::warpAffine: 1024ths, rounded for each side
/// apart, of which bilinear weights are the upper five bits behind the point.
class RotationWarp final : public Warp {
 public:
  RotationWarp(const Turned& to, bool nearest, double border)
      : back_(inverse(to.matrix)), size_(to.size), nearest_(nearest), border_(border) {}

  cv::Size size(const cv::Size&) const override { return size_; }

  cv::Rect needed(const cv::Size& from, int /*type*/, const cv::Rect& part) const override {
    const auto range = [&](int axis) {
      const auto [left, right] =
          std::minmax({by_column(axis, part.x), by_column(axis, part.x + part.width - 1)});
      const auto [top, bottom] =
          std::minmax({by_row(axis, part.y), by_row(axis, part.y + part.height - 1)});
      // The right neighbour of the last is read, too.
      return cv::Range((left + top) >> kBits, ((right + bottom) >> kBits) + 2);
    };
    const cv::Range x = range(0), y = range(1);
    return within(from, {x.start, y.start, x.size(), y.size()});
  }

  cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const override {
    // OpenCV warps labels of int32 only as float, which holds class ids exactly.
    const bool as_float = from.pixels.depth() == CV_32S;
    cv::Mat pixels = from.pixels;
    if (as_float) pixels.convertTo(pixels, CV_32F);
    cv::Mat out(part.size(), pixels.type());
    const std::vector<int> x = by_columns(0, part), y = by_columns(1, part);
    cv::Mat places(kRows, part.width, CV_16SC2), weights(kRows, part.width, CV_16UC1);
    for (int row = 0; row < part.height; row += kRows) {
      const int rows = std::min(kRows, part.height - row);
      for (int i = 0; i < rows; ++i) {
        const int at = part.y + row + i;
        fill(by_row(0, at), by_row(1, at), x, y, from.origin, places.ptr<int16_t>(i),
             weights.ptr<uint16_t>(i));
      }
      cv::Mat band = out.rowRange(row, row + rows);
      cv::remap(pixels, band, places.rowRange(0, rows),
                nearest_ ? cv::Mat() : weights.rowRange(0, rows),
                nearest_ ? cv::INTER_NEAREST : cv::INTER_LINEAR, cv::BORDER_CONSTANT,
                cv::Scalar::all(border_));
    }
    if (as_float) out.convertTo(out, CV_32S);
    return flipped(out, flips);
  }

 private:
  static constexpr int kBits = 10;       ///< behind the point
  static constexpr int kWeightBits = 5;  ///< of them, in weights
  static constexpr int kRows = 32;       ///< at a time, whose places stay in the cache

  static int fixed(double value) { return cv::saturate_cast<int>(value * (1 << kBits)); }
  /// What a column adds to a coordinate. \param axis  0: x, 1: y.
  int by_column(int axis, int x) const { return fixed(back_(axis, 0) * x); }
  /// What a row adds to it, with what rounds.
  int by_row(int axis, int y) const {
    const int half = nearest_ ? 1 << (kBits - 1) : 1 << (kBits - kWeightBits - 1);
    return fixed(back_(axis, 1) * y + back_(axis, 2)) + half;
  }
  std::vector<int> by_columns(int axis, const cv::Rect& part) const {
    std::vector<int> out(static_cast<size_t>(part.width));
    for (int i = 0; i < part.width; ++i) {
      out[static_cast<size_t>(i)] = by_column(axis, part.x + i);
    }
    return out;
  }
  /// A row of places, as cv::remap takes them.
  static void fill(int x0, int y0, const std::vector<int>& x, const std::vector<int>& y,
                   const cv::Point& origin, int16_t* places, uint16_t* weights) {
    constexpr int kRest = kBits - kWeightBits, kMask = (1 << kWeightBits) - 1;
    for (size_t i = 0; i < x.size(); ++i) {
      const int at_x = x0 + x[i], at_y = y0 + y[i];
      places[2 * i] = cv::saturate_cast<int16_t>((at_x >> kBits) - origin.x);
      places[2 * i + 1] = cv::saturate_cast<int16_t>((at_y >> kBits) - origin.y);
      weights[i] = static_cast<uint16_t>((((at_y >> kRest) & kMask) << kWeightBits) +
                                         ((at_x >> kRest) & kMask));
    }
  }

  cv::Matx23d back_;
  cv::Size size_;
  bool nearest_;
  double border_;
};

}  // namespace

void rotate_sample(Sample& sample, std::string_view transform, const Rotation& rotation,
                   double border, double label_border) {
  plan_pictures(sample, transform, [&](Geometry& geometry, const cv::Size& now, PictureKind kind) {
    const double outside = kind == PictureKind::kImage    ? border
                           : kind == PictureKind::kLabels ? label_border
                                                          : 0;
    const bool nearest = kind != PictureKind::kImage;
    geometry.warp(std::make_shared<RotationWarp>(turned(rotation, now), nearest, outside));
  });
}

}  // namespace seg
