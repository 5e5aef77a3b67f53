#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/degree_range.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/rotate.hpp"

namespace seg {

struct RandomRotFlipParams {
  double rotate_prob = 0.5;
  double flip_prob = 0.5;
  DegreeRange degree = std::array<double, 2>{-20, 20};
};

namespace {

/// Rows become columns.
class Transposition final : public Warp {
 public:
  cv::Size size(const cv::Size& from) const override { return {from.height, from.width}; }
  cv::Rect needed(const cv::Size&, int, const cv::Rect& part) const override {
    return turned(part);
  }
  cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const override {
    cv::Mat out;
    cv::transpose(from.pixels(turned(part) - from.origin), out);
    return flipped(out, flips);
  }

 private:
  static cv::Rect turned(const cv::Rect& part) { return {part.y, part.x, part.height, part.width}; }
};

class RandomRotFlip final : public GeometricTransform {
 public:
  using Params = RandomRotFlipParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Rotates image and labels by a random angle, or turns them by quarters "
               "and flips them; what comes from outside is 0. Labels are nearest, where "
               "MMSegmentation interpolates class ids.")
        .source("TransUNet, Chen et al. 2021, arXiv:2102.04306; MMSegmentation 1.2")
        .optional("rotate_prob", &Params::rotate_prob, "probability of a rotation", in_range(0, 1))
        .optional("flip_prob", &Params::flip_prob,
                  "probability of turn and flip where there was no rotation", in_range(0, 1))
        .optional("degree", &Params::degree,
                  "bounds of the angle in degrees, or one number d for -d to d")
        .validate([](const Params& p, Problems& problems) { check_degree(p.degree, problems); });
  }
  explicit RandomRotFlip(const Params& p) : p_(p), bounds_(degree_bounds(p.degree)) {}

  void plan(Sample& sample, Rng& rng) const override {
    require_planned_image(sample, "RandomRotFlip");
    if (rng.chance(p_.rotate_prob)) {
      const Rotation rotation{rng.uniform(bounds_[0], bounds_[1]), {}, false};
      rotate_sample(sample, "RandomRotFlip", rotation, 0, 0);
    } else if (rng.chance(p_.flip_prob)) {
      // Quarter turns counter-clockwise, then a flip of the rows (0) or the columns (1).
      const int64_t quarters = rng.below(4);
      const bool columns = rng.below(2) == 1;
      plan_pictures(sample, "RandomRotFlip", [&](Geometry& geometry, const cv::Size&, PictureKind) {
        if (quarters % 2 == 1) geometry.warp(std::make_shared<Transposition>());
        geometry.flip(quarters >= 2, quarters == 1 || quarters == 2);
        geometry.flip(columns, !columns);
      });
    }
  }

 private:
  Params p_;
  std::array<double, 2> bounds_;
};
SEG_REGISTER(Transform, RandomRotFlip);

}  // namespace
}  // namespace seg
