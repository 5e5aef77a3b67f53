#include "segcore/data/transforms/resize.hpp"
#include "segcore/image/resize_image.hpp"

namespace seg {

struct SegRescaleParams {
  double scale_factor = 1;
};

namespace {

class SegRescale final : public Transform {
 public:
  using Params = SegRescaleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Resizes the labels alone by a factor.")
        .source("MMSegmentation 1.2")
        .optional("scale_factor", &Params::scale_factor, "factor of both sides", above(0));
  }
  explicit SegRescale(const Params& p) : factor_(p.scale_factor) {}

  TransformTraits traits() const override { return {.labels_only = true}; }
  void apply(Sample& sample, Rng&) const override {
    if (sample.labels.empty() || factor_ == 1) return;
    sample.labels = resize_image(
        sample.labels,
        size_of(scale_size({sample.labels.cols, sample.labels.rows}, factor_, factor_)), "nearest",
        "cv2");
  }

 private:
  double factor_;
};
SEG_REGISTER(Transform, SegRescale);

}  // namespace
}  // namespace seg
