#include "segcore/data/transform.hpp"

namespace seg {

struct TestTimeAugParams {
  std::vector<std::vector<Spec<Transform>>> transforms;
};

namespace {

class TestTimeAug final : public Transform {
 public:
  using Params = TestTimeAugParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Makes one sample for every combination of one transform from each list; the "
               "last list changes fastest.")
        .source("MMCV 2.1")
        .required("transforms", &Params::transforms,
                  "lists of alternatives, in the order they follow each other")
        .validate([](const Params& p, Problems& problems) {
          for (size_t i = 0; i < p.transforms.size(); ++i) {
            if (p.transforms[i].empty()) {
              problems.error("transforms", text("list ", i, " has no transform in it"));
            }
          }
        });
  }
  explicit TestTimeAug(const Params& p) {
    for (const auto& list : p.transforms) {
      auto& built = lists_.emplace_back();
      for (const auto& spec : list) built.push_back(spec.build());
    }
  }

  TransformTraits traits() const override {
    TransformTraits out;
    for (const auto& list : lists_) {
      for (const auto& transform : list) out.loads_labels |= transform->traits().loads_labels;
    }
    return out;
  }
  void apply(Sample&, Rng&) const override {
    throw Error("TestTimeAug makes several samples of one: call expand");
  }
  std::vector<Sample> expand(Sample sample, Rng& rng) const override {
    settle(sample);  // once for all branches
    std::vector<Sample> out;
    branch(std::move(sample), 0, rng, out);
    return out;
  }

 private:
  /// Steps that several branches share run once; copies share their pixels.
  void branch(Sample sample, size_t depth, Rng& rng, std::vector<Sample>& out) const {
    if (depth == lists_.size()) {
      out.push_back(std::move(sample));
      return;
    }
    for (const auto& transform : lists_[depth]) {
      for (Sample& result : transform->expand(sample, rng)) {
        settle(result);
        branch(std::move(result), depth + 1, rng, out);
      }
    }
  }

  std::vector<std::vector<std::unique_ptr<Transform>>> lists_;
};
SEG_REGISTER(Transform, TestTimeAug);

}  // namespace
}  // namespace seg
