#include <algorithm>

#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/resize.hpp"

namespace seg {

struct RandomResizeParams : ResizeByTypeParams {
  std::variant<WidthHeight, std::array<WidthHeight, 2>> scale = WidthHeight{};
  std::optional<std::array<double, 2>> ratio_range;
};

namespace {

class RandomResize final : public GeometricTransform {
 public:
  using Params = RandomResizeParams;
  static Schema<Params> schema() {
    return Schema<Params>("Resizes image and labels to a random scale.")
        .source("MMCV 2.1")
        .required(
            "scale", &Params::scale,
            "width and height that ratio_range scales, or two pairs of them between which width "
            "and height are drawn",
            at_least(1))
        .optional("ratio_range", &Params::ratio_range,
                  "bounds of the one ratio that both sides are multiplied by", above(0))
        .include(ResizeByTypeParams::schema())
        .validate([](const Params& p, Problems& problems) {
          const bool pairs = std::holds_alternative<std::array<WidthHeight, 2>>(p.scale);
          if (!pairs && !p.ratio_range) {
            problems.error("ratio_range", "RandomResize needs 'ratio_range' with one scale");
          }
          if (pairs && p.ratio_range) {
            problems.warn("ratio_range", "ratio_range is ignored because scale is a range");
          }
          if (p.ratio_range && (*p.ratio_range)[0] > (*p.ratio_range)[1]) {
            problems.error("ratio_range", "the lower bound must not be above the upper one");
          }
        });
  }
  explicit RandomResize(const Params& p) : p_(p) {}

  void plan(Sample& sample, Rng& rng) const override {
    require_planned_image(sample, "RandomResize");
    resize_by_type(sample, draw(rng), p_);
  }

 private:
  WidthHeight draw(Rng& rng) const {
    if (const auto* base = std::get_if<WidthHeight>(&p_.scale)) {
      const auto [low, high] = *p_.ratio_range;
      const double ratio = rng.uniform() * (high - low) + low;
      const auto side = [&](int64_t length) {
        return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(length) * ratio));
      };
      return {side((*base)[0]), side((*base)[1])};
    }
    const auto& ends = std::get<std::array<WidthHeight, 2>>(p_.scale);
    const auto between = [&](size_t side) {
      const auto [low, high] = std::minmax(ends[0][side], ends[1][side]);
      return low + rng.below(high - low + 1);
    };
    const int64_t width = between(0);
    return {width, between(1)};
  }

  Params p_;
};
SEG_REGISTER(Transform, RandomResize);

}  // namespace
}  // namespace seg
