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

/// Quarter turns counter-clockwise, then a flip of the rows (0) or the columns (1).
void turn_and_flip(cv::Mat& mat, int64_t quarters, int axis) {
  if (mat.empty()) return;
  cv::Mat out;
  switch (quarters) {
    case 1:
      cv::rotate(mat, out, cv::ROTATE_90_COUNTERCLOCKWISE);
      break;
    case 2:
      cv::rotate(mat, out, cv::ROTATE_180);
      break;
    case 3:
      cv::rotate(mat, out, cv::ROTATE_90_CLOCKWISE);
      break;
    default:
      out = mat;
      break;
  }
  cv::Mat flipped;
  cv::flip(out, flipped, axis);
  mat = flipped;
}

class RandomRotFlip final : public Transform {
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

  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "RandomRotFlip");
    if (rng.chance(p_.rotate_prob)) {
      const Rotation rotation{rng.uniform(bounds_[0], bounds_[1]), {}, false};
      sample.image = rotate_image(sample.image, rotation, false, 0);
      if (!sample.image2.empty()) sample.image2 = rotate_image(sample.image2, rotation, false, 0);
      for (cv::Mat* mat : {&sample.labels, &sample.depth}) {
        if (!mat->empty()) *mat = rotate_image(*mat, rotation, true, 0);
      }
    } else if (rng.chance(p_.flip_prob)) {
      const int64_t quarters = rng.below(4);
      const int axis = static_cast<int>(rng.below(2));
      for (cv::Mat* mat : {&sample.image, &sample.image2, &sample.labels, &sample.depth}) {
        turn_and_flip(*mat, quarters, axis);
      }
    }
  }

 private:
  Params p_;
  std::array<double, 2> bounds_;
};
SEG_REGISTER(Transform, RandomRotFlip);

}  // namespace
}  // namespace seg
