#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/degree_range.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/rotate.hpp"

namespace seg {

struct RandomRotateParams {
  double prob = 0;
  DegreeRange degree = 0.0;
  double pad_val = 0;
  double seg_pad_val = 255;
  std::optional<std::array<double, 2>> center;
  bool auto_bound = false;
};

namespace {

class RandomRotate final : public GeometricTransform {
 public:
  using Params = RandomRotateParams;
  static Schema<Params> schema() {
    return Schema<Params>("Rotates image and labels by a random angle with a probability.")
        .source("MMSegmentation 1.2")
        .required("prob", &Params::prob, "probability of a rotation", in_range(0, 1))
        .required("degree", &Params::degree,
                  "bounds of the angle in degrees, or one number d for -d to d")
        .optional("pad_val", &Params::pad_val, "value of new pixels of the image, in all bands")
        .optional("seg_pad_val", &Params::seg_pad_val, "value of new pixels of the labels")
        .optional("center", &Params::center, "x and y of the centre; null is the middle",
                  in_range(-500'000, 500'000))
        .optional("auto_bound", &Params::auto_bound, "enlarge the image so that all of it stays")
        .validate([](const Params& p, Problems& problems) {
          check_degree(p.degree, problems);
          if (p.center && p.auto_bound) {
            problems.error("center", "center and auto_bound exclude each other");
          }
        });
  }
  explicit RandomRotate(const Params& p) : p_(p), bounds_(degree_bounds(p.degree)) {}

  void plan(Sample& sample, Rng& rng) const override {
    require_planned_image(sample, "RandomRotate");
    const bool rotate = rng.chance(p_.prob);
    const Rotation rotation{rng.uniform(bounds_[0], bounds_[1]), p_.center, p_.auto_bound};
    if (rotate) rotate_sample(sample, "RandomRotate", rotation, p_.pad_val, p_.seg_pad_val);
  }

 private:
  Params p_;
  std::array<double, 2> bounds_;
};
SEG_REGISTER(Transform, RandomRotate);

}  // namespace
}  // namespace seg
