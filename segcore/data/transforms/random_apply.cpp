#include <algorithm>
#include <numeric>

#include "segcore/data/transform.hpp"

namespace seg {

struct RandomApplyParams {
  OneOrMany<Spec<Transform>> transforms;
  double prob = 0.5;
};

struct RandomChoiceParams {
  std::vector<OneOrMany<Spec<Transform>>> transforms;
  std::optional<std::vector<double>> prob;
};

namespace {

class TransformChain {
 public:
  explicit TransformChain(const OneOrMany<Spec<Transform>>& specs) {
    for (const auto& spec : specs.values) {
      steps_.push_back(spec.build());
      if (steps_.back()->traits().mixes) {
        throw OptionError("transforms", text(spec.type(),
                                             " cannot be one of others: it has a probability of "
                                             "its own. Make it a step of the pipeline"));
      }
    }
  }
  void plan(Sample& sample, Rng& rng) const {
    for (const auto& step : steps_) step->plan(sample, rng);
  }
  bool loads_labels() const {
    return std::any_of(steps_.begin(), steps_.end(),
                       [](const auto& step) { return step->traits().loads_labels; });
  }

 private:
  std::vector<std::unique_ptr<Transform>> steps_;
};

class RandomApply final : public GeometricTransform {
 public:
  using Params = RandomApplyParams;
  static Schema<Params> schema() {
    return Schema<Params>("Runs some transforms with a probability.")
        .source("MMCV 2.1")
        .required("transforms", &Params::transforms, "what to run")
        .optional("prob", &Params::prob, "probability", in_range(0, 1));
  }
  explicit RandomApply(const Params& p) : chain_(p.transforms), prob_(p.prob) {}
  TransformTraits traits() const override { return {.loads_labels = chain_.loads_labels()}; }
  void plan(Sample& sample, Rng& rng) const override {
    if (rng.chance(prob_)) chain_.plan(sample, rng);
  }

 private:
  TransformChain chain_;
  double prob_;
};
SEG_REGISTER(Transform, RandomApply);

class RandomChoice final : public GeometricTransform {
 public:
  using Params = RandomChoiceParams;
  static Schema<Params> schema() {
    return Schema<Params>("Runs one of several transforms or lists of transforms.")
        .source("MMCV 2.1")
        .required("transforms", &Params::transforms, "what to choose from")
        .optional("prob", &Params::prob, "probability of each; null is equal ones", in_range(0, 1))
        .validate([](const Params& p, Problems& problems) {
          if (p.transforms.empty()) {
            problems.error("transforms", "there must be one transform at least");
          }
          if (!p.prob) return;
          if (p.prob->size() != p.transforms.size()) {
            problems.error("prob", text("expected one probability for each of the ",
                                        p.transforms.size(), " choices, got ", p.prob->size()));
          } else if (std::abs(std::accumulate(p.prob->begin(), p.prob->end(), 0.0) - 1) > 1e-6) {
            problems.error("prob", "the probabilities must sum to 1");
          }
        });
  }
  explicit RandomChoice(const Params& p) {
    for (const auto& choice : p.transforms) chains_.emplace_back(choice);
    probs_ = p.prob.value_or(
        std::vector<double>(chains_.size(), 1.0 / static_cast<double>(chains_.size())));
  }
  TransformTraits traits() const override {
    return {.loads_labels =
                std::any_of(chains_.begin(), chains_.end(),
                            [](const TransformChain& chain) { return chain.loads_labels(); })};
  }
  void plan(Sample& sample, Rng& rng) const override {
    double left = rng.uniform();
    size_t chosen = 0;
    while (chosen + 1 < chains_.size() && left >= probs_[chosen]) left -= probs_[chosen++];
    chains_[chosen].plan(sample, rng);
  }

 private:
  std::vector<TransformChain> chains_;
  std::vector<double> probs_;
};
SEG_REGISTER(Transform, RandomChoice);

}  // namespace
}  // namespace seg
