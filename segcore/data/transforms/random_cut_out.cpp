#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RandomCutOutParams {
  using Pair = std::array<double, 2>;
  double prob = 0;
  std::variant<int64_t, std::array<int64_t, 2>> n_holes = int64_t{0};
  std::optional<std::variant<Pair, std::vector<Pair>>> cutout_shape, cutout_ratio;
  std::vector<double> fill_in{0, 0, 0};
  std::optional<int64_t> seg_fill_in;
};

namespace {

class RandomCutOut final : public Transform {
 public:
  using Params = RandomCutOutParams;
  static Schema<Params> schema() {
    return Schema<Params>("Fills random rectangles of the image with a value.")
        .source("Cutout, DeVries and Taylor 2017, arXiv:1708.04552; MMSegmentation 1.2")
        .required("prob", &Params::prob, "probability that there are any", in_range(0, 1))
        .required("n_holes", &Params::n_holes, "how many; or the smallest and the largest number",
                  at_least(0))
        .optional("cutout_shape", &Params::cutout_shape,
                  "width and height in pixels, or a list of pairs to choose from", at_least(0))
        .optional("cutout_ratio", &Params::cutout_ratio,
                  "width and height as shares of the image's, or a list of pairs to choose "
                  "from",
                  at_least(0))
        .optional("fill_in", &Params::fill_in, "value of the image there, one for each band")
        .optional("seg_fill_in", &Params::seg_fill_in,
                  "value of the labels there; null leaves them", in_range(0, 255))
        .validate([](const Params& p, Problems& problems) {
          if (p.cutout_shape.has_value() == p.cutout_ratio.has_value()) {
            problems.error("cutout_shape",
                           "RandomCutOut needs either 'cutout_shape' or 'cutout_ratio'");
          }
          if (const auto* range = std::get_if<std::array<int64_t, 2>>(&p.n_holes);
              range && (*range)[0] > (*range)[1]) {
            problems.error("n_holes", "the lower bound must not be above the upper one");
          }
          for (const auto* from : {&p.cutout_shape, &p.cutout_ratio}) {
            if (!*from) continue;
            const auto* list = std::get_if<std::vector<Params::Pair>>(&**from);
            if (list && list->empty()) {
              problems.error(from == &p.cutout_shape ? "cutout_shape" : "cutout_ratio",
                             "there must be one pair at least");
            }
          }
        });
  }
  explicit RandomCutOut(const Params& p) : p_(p), relative_(p.cutout_ratio.has_value()) {
    const auto& from = relative_ ? *p.cutout_ratio : *p.cutout_shape;
    if (const auto* one = std::get_if<Params::Pair>(&from)) {
      shapes_ = {*one};
    } else {
      shapes_ = std::get<std::vector<Params::Pair>>(from);
    }
    if (const auto* count = std::get_if<int64_t>(&p.n_holes)) {
      holes_ = {*count, *count};
    } else {
      holes_ = std::get<std::array<int64_t, 2>>(p.n_holes);
    }
  }

  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "RandomCutOut");
    if (!rng.chance(p_.prob)) return;
    make_unique(sample.image);
    if (p_.seg_fill_in) make_unique(sample.labels);
    const int height = sample.image.rows, width = sample.image.cols;
    const int64_t holes = holes_[0] + rng.below(holes_[1] - holes_[0] + 1);
    for (int64_t i = 0; i < holes; ++i) {
      const int x = static_cast<int>(rng.below(width)), y = static_cast<int>(rng.below(height));
      const auto& shape =
          shapes_[static_cast<size_t>(rng.below(static_cast<int64_t>(shapes_.size())))];
      const cv::Rect hole(x, y, static_cast<int>(relative_ ? shape[0] * width : shape[0]),
                          static_cast<int>(relative_ ? shape[1] * height : shape[1]));
      fill_rect(sample.image, hole & cv::Rect(0, 0, width, height), p_.fill_in, "RandomCutOut");
      if (p_.seg_fill_in && !sample.labels.empty()) {
        fill_rect(sample.labels, hole & cv::Rect(0, 0, sample.labels.cols, sample.labels.rows),
                  {static_cast<double>(*p_.seg_fill_in)}, "RandomCutOut");
      }
    }
  }

 private:
  Params p_;
  bool relative_;
  std::vector<Params::Pair> shapes_;
  std::array<int64_t, 2> holes_{};
};
SEG_REGISTER(Transform, RandomCutOut);

}  // namespace
}  // namespace seg
