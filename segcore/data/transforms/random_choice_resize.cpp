#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/resize.hpp"

namespace seg {

struct RandomChoiceResizeParams : ResizeByTypeParams {
  std::vector<std::variant<int64_t, WidthHeight>> scales;
};

namespace {

class RandomChoiceResize final : public GeometricTransform {
 public:
  using Params = RandomChoiceResizeParams;
  static Schema<Params> schema() {
    return Schema<Params>("Resizes image and labels to one of several scales.")
        .source("MMCV 2.1")
        .required("scales", &Params::scales,
                  "the scales to choose from, each width and height or one number for both",
                  at_least(1))
        .include(ResizeByTypeParams::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.scales.empty()) problems.error("scales", "there must be one scale at least");
        });
  }
  explicit RandomChoiceResize(const Params& p) : p_(p) {}

  void plan(Sample& sample, Rng& rng) const override {
    require_planned_image(sample, "RandomChoiceResize");
    const auto& chosen =
        p_.scales[static_cast<size_t>(rng.below(static_cast<int64_t>(p_.scales.size())))];
    const auto* side = std::get_if<int64_t>(&chosen);
    resize_by_type(sample, side ? WidthHeight{*side, *side} : std::get<WidthHeight>(chosen), p_);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, RandomChoiceResize);

}  // namespace
}  // namespace seg
