#include <algorithm>

#include "segcore/data/transforms/resize.hpp"

namespace seg {

struct ResizeShortestEdgeParams {
  std::variant<int64_t, WidthHeight> scale = int64_t{0};
  int64_t max_size = 0;
};

namespace {

class ResizeShortestEdge final : public GeometricTransform {
 public:
  using Params = ResizeShortestEdgeParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Resizes so that the shorter side has a length, and the longer one no "
               "more than another.")
        .source("Detectron2; MMSegmentation 1.2")
        .required("scale", &Params::scale,
                  "length of the shorter side in pixels; of two numbers the smaller", at_least(1))
        .required("max_size", &Params::max_size, "upper limit of the longer side", at_least(1));
  }
  explicit ResizeShortestEdge(const Params& p) {
    if (const auto* side = std::get_if<int64_t>(&p.scale)) {
      shortest_ = *side;
    } else {
      const auto& sides = std::get<WidthHeight>(p.scale);
      shortest_ = std::min(sides[0], sides[1]);
    }
    how_.resize_type = "ResizeShortestEdge";
    how_.max_size = p.max_size;
  }

  void plan(Sample& sample, Rng&) const override {
    resize_by_type(sample, {shortest_, shortest_}, how_);
  }

 private:
  int64_t shortest_ = 0;
  ResizeByTypeParams how_;
};
SEG_REGISTER(Transform, ResizeShortestEdge);

}  // namespace
}  // namespace seg
