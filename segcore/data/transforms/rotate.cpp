#include "segcore/data/transforms/rotate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/pixels.hpp"

namespace seg {
namespace {

struct AffineMap {
  cv::Matx23d matrix;
  cv::Size size;  ///< of the result
};

AffineMap affine_map(const Rotation& rotation, const cv::Size& from) {
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

/// Coordinates in the source are sums of a column's term and a row's, each rounded to 10 fractional
/// bits, as in cv::warpAffine; the top 5 of these are the bilinear weights.
class RotationWarp final : public Warp {
 public:
  RotationWarp(const AffineMap& map, bool nearest, double border)
      : size_(map.size), nearest_(nearest), border_(border) {
    cv::invertAffineTransform(map.matrix, inverse_);
  }

  cv::Size size(const cv::Size&) const override { return size_; }

  cv::Rect needed(const cv::Size& from, int /*type*/, const cv::Rect& part) const override {
    return within(from, read_by(part));
  }

  cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const override {
    cv::Mat out(part.size(), from.pixels.type());
    for (int y = 0; y < part.height; y += kTileHeight) {
      for (int x = 0; x < part.width; x += kTileWidth) {
        const cv::Rect tile = cv::Rect(x, y, kTileWidth, kTileHeight) & cv::Rect({}, part.size());
        cv::Mat into = out(tile);
        make_tile(from, tile + part.tl(), into);
      }
    }
    return flipped(out, flips);
  }

 private:
  static constexpr int kFractionBits = 10, kWeightBits = 5;
  /// Its coordinates stay in the cache, and cv::remap is given no picture with too long sides.
  static constexpr int kTileWidth = 128, kTileHeight = 32;

  static int fixed(double value) { return cv::saturate_cast<int>(value * (1 << kFractionBits)); }
  /// \param axis  0: x, 1: y.
  int column_term(int axis, int x) const { return fixed(inverse_(axis, 0) * x); }
  /// With what rounds.
  int row_term(int axis, int y) const {
    const int half = nearest_ ? 1 << (kFractionBits - 1) : 1 << (kFractionBits - kWeightBits - 1);
    return fixed(inverse_(axis, 1) * y + inverse_(axis, 2)) + half;
  }

  /// Also outside of the source.
  cv::Rect read_by(const cv::Rect& part) const {
    const auto range = [&](int axis) {
      const auto [left, right] =
          std::minmax({column_term(axis, part.x), column_term(axis, part.x + part.width - 1)});
      const auto [top, bottom] =
          std::minmax({row_term(axis, part.y), row_term(axis, part.y + part.height - 1)});
      // The right neighbour of the last is read, too.
      return cv::Range((left + top) >> kFractionBits, ((right + bottom) >> kFractionBits) + 2);
    };
    const cv::Range x = range(0), y = range(1);
    return {x.start, y.start, x.size(), y.size()};
  }

  void make_tile(const PictureWindow& from, const cv::Rect& tile, cv::Mat& out) const {
    // What is missing of it lies outside of the picture.
    cv::Rect read = read_by(tile) & cv::Rect(from.origin, from.pixels.size());
    if (read.empty()) read = {from.origin, cv::Size(1, 1)};
    std::array<int, kTileWidth> x, y;
    for (int i = 0; i < tile.width; ++i) {
      x[static_cast<size_t>(i)] = column_term(0, tile.x + i);
      y[static_cast<size_t>(i)] = column_term(1, tile.x + i);
    }
    std::array<int16_t, 2 * kTileWidth * kTileHeight> places;
    std::array<uint16_t, kTileWidth * kTileHeight> weights;
    for (int i = 0; i < tile.height; ++i) {
      const int x0 = row_term(0, tile.y + i), y0 = row_term(1, tile.y + i);
      place_row(x0, y0, x.data(), y.data(), tile.width, read.tl(),
                places.data() + 2 * i * tile.width);
      if (!nearest_) {
        weigh_row(x0, y0, x.data(), y.data(), tile.width, weights.data() + i * tile.width);
      }
    }
    const cv::Mat all_places(tile.size(), CV_16SC2, places.data());
    const cv::Mat all_weights =
        nearest_ ? cv::Mat() : cv::Mat(tile.size(), CV_16UC1, weights.data());
    cv::Mat pixels = from.pixels(read - from.origin);
    const bool as_float = !nearest_ && pixels.depth() == CV_32S;  // which OpenCV does not blend
    if (as_float) pixels.convertTo(pixels, CV_32F);
    cv::Mat made = as_float ? cv::Mat() : out;
    cv::remap(pixels, made, all_places, all_weights,
              nearest_ ? cv::INTER_NEAREST : cv::INTER_LINEAR, cv::BORDER_CONSTANT,
              cv::Scalar::all(border_));
    if (as_float) made.convertTo(out, out.type());
  }

  /// Pixels in pairs of x and y, as cv::remap takes them.
  static void place_row(int x0, int y0, const int* x, const int* y, int count,
                        const cv::Point& origin, int16_t* places) {
    const auto place = [](int coordinate, int from) {
      return static_cast<int16_t>(
          std::clamp((coordinate >> kFractionBits) - from, INT16_MIN, INT16_MAX));
    };
#pragma omp simd
    for (int i = 0; i < count; ++i) {
      places[2 * i] = place(x0 + x[i], origin.x);
      places[2 * i + 1] = place(y0 + y[i], origin.y);
    }
  }
  /// Of both sides in one number, as cv::remap takes them.
  static void weigh_row(int x0, int y0, const int* x, const int* y, int count, uint16_t* weights) {
    constexpr int kRest = kFractionBits - kWeightBits, kMask = (1 << kWeightBits) - 1;
#pragma omp simd
    for (int i = 0; i < count; ++i) {
      weights[i] = static_cast<uint16_t>(((((y0 + y[i]) >> kRest) & kMask) << kWeightBits) +
                                         (((x0 + x[i]) >> kRest) & kMask));
    }
  }

  cv::Matx23d inverse_;
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
    geometry.warp(std::make_shared<RotationWarp>(affine_map(rotation, now), nearest, outside));
  });
}

}  // namespace seg
