#include "segcore/data/transforms/random_flip.hpp"

#include <numeric>
#include <opencv2/core.hpp>
#include <optional>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RandomFlipParams {
  std::variant<double, std::vector<double>> prob = 0.0;
  OneOrMany<std::string> direction{{"horizontal"}, false};
  std::optional<std::vector<std::array<int64_t, 2>>> swap_seg_labels;
};

namespace {

class RandomFlip final : public GeometricTransform {
 public:
  using Params = RandomFlipParams;
  static Schema<Params> schema() {
    return Schema<Params>("Flips image and labels with a probability.")
        .source("MMCV 2.1")
        .required("prob", &Params::prob,
                  "probability of a flip, shared by the directions; or one for each direction",
                  in_range(0, 1))
        .optional("direction", &Params::direction,
                  "horizontal, vertical or diagonal (both); or a list of them")
        .optional("swap_seg_labels", &Params::swap_seg_labels,
                  "pairs of classes that change places in a flip, as left and right arm")
        .validate(check);
  }
  explicit RandomFlip(const Params& p) : directions_(p.direction.values) {
    if (const auto* prob = std::get_if<double>(&p.prob)) {
      probs_.assign(directions_.size(), *prob / static_cast<double>(directions_.size()));
    } else {
      probs_ = std::get<std::vector<double>>(p.prob);
    }
    if (p.swap_seg_labels) swap_ = *p.swap_seg_labels;
  }

  void plan(Sample& sample, Rng& rng) const override {
    require_planned_image(sample, "RandomFlip");
    sample.meta.flip = false;
    sample.meta.flip_direction.clear();
    const double drawn = rng.uniform();
    double sum = 0;
    for (size_t i = 0; i < directions_.size(); ++i) {
      sum += probs_[i];
      // The last bound must not depend on how a sum of thirds rounds.
      if (drawn < sum || (i + 1 == directions_.size() && sum > 1 - 1e-9)) {
        sample.meta.flip = true;
        sample.meta.flip_direction = directions_[i];
        flip_sample(sample, directions_[i], swap_);
        return;
      }
    }
  }

 private:
  static void check(const Params& p, Problems& problems) {
    static const std::vector<std::string> known{"horizontal", "vertical", "diagonal"};
    for (const std::string& d : p.direction.values) {
      if (std::find(known.begin(), known.end(), d) == known.end()) {
        problems.error("direction", text("unknown value '", d, "'.", did_you_mean(d, known),
                                         " Known: ", join(known, ", ")));
        return;
      }
    }
    if (p.direction.values.empty()) {
      problems.error("direction", "there must be one direction at least");
    }
    const auto* probs = std::get_if<std::vector<double>>(&p.prob);
    if (!probs) return;
    if (probs->size() != p.direction.values.size()) {
      problems.error("prob", text("expected one probability for each of the ",
                                  p.direction.values.size(), " directions, got ", probs->size()));
    } else if (std::accumulate(probs->begin(), probs->end(), 0.0) > 1 + 1e-9) {
      problems.error("prob", "the probabilities must not sum to more than 1");
    }
  }

  std::vector<double> probs_;
  std::vector<std::string> directions_;
  std::vector<std::array<int64_t, 2>> swap_;
};
SEG_REGISTER(Transform, RandomFlip);

void swap_classes(cv::Mat& labels, const std::vector<std::array<int64_t, 2>>& pairs) {
  if (labels.depth() == CV_8U) {
    std::array<uint8_t, 256> table{};
    std::iota(table.begin(), table.end(), uint8_t{0});
    for (const auto& [a, b] : pairs) {
      if (a >= 0 && a < 256) table[static_cast<size_t>(a)] = static_cast<uint8_t>(b);
      if (b >= 0 && b < 256) table[static_cast<size_t>(b)] = static_cast<uint8_t>(a);
    }
    apply_table(labels, table);
    return;
  }
  for (int y = 0; y < labels.rows; ++y) {
    int32_t* row = labels.ptr<int32_t>(y);
    for (int x = 0; x < labels.cols; ++x) {
      const int32_t label = row[x];
      for (const auto& [a, b] : pairs) {
        if (label == a) row[x] = static_cast<int32_t>(b);
        if (label == b) row[x] = static_cast<int32_t>(a);
      }
    }
  }
}

}  // namespace

void flip_sample(Sample& sample, const std::string& direction,
                 const std::vector<std::array<int64_t, 2>>& swap_labels) {
  const bool x = direction != "vertical", y = direction != "horizontal";
  if (!sample.labels.empty() && !swap_labels.empty()) {
    // What pads and rotations fill in is swapped, too.
    sample.labels = sample.planned.labels.apply(sample.labels);
    sample.planned.labels = {};
    make_unique(sample.labels);
    swap_classes(sample.labels, swap_labels);
  }
  for_each_picture(sample, [&](const cv::Mat&, Geometry& geometry) { geometry.flip(x, y); });
}

}  // namespace seg
