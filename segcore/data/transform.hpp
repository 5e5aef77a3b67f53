/// The interface of the steps of a data pipeline.
#pragma once
#include <memory>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/rng.hpp"
#include "segcore/data/sample.hpp"

namespace seg {

/// What a step does with a sample, for code that arranges pipelines.
struct TransformTraits {
  bool loads_image = false;
  bool loads_labels = false;
  bool labels_only = false;    ///< without labels there is nothing for it to do
  bool ends_pipeline = false;  ///< no step can follow it
  bool mixes = false;          ///< needs other samples of the data set (MultiImageMixDataset)
};

/// A step of a pipeline. Const: workers run one object in parallel, and all randomness is `rng`'s.
class Transform {
 public:
  virtual ~Transform() = default;
  /// \throws DataError with the file's name where a file is at fault.
  virtual void apply(Sample& sample, Rng& rng) const = 0;
  /// The same, but pixels may be left where they are and only their new places be planned
  /// (`Sample::planned`), so that several steps move them at once, and no others.
  virtual void plan(Sample& sample, Rng& rng) const {
    settle(sample);
    apply(sample, rng);
  }
  /// How many other samples the next `apply` mixes into its own: it finds them in `Sample::others`.
  virtual int64_t draw_others(Rng&) const { return 0; }
  /// What follows in a pipeline runs on each of the results. Only test-time augmentation makes
  /// more than one of a sample.
  virtual std::vector<Sample> expand(Sample sample, Rng& rng) const {
    plan(sample, rng);
    std::vector<Sample> one;
    one.push_back(std::move(sample));
    return one;
  }
  virtual TransformTraits traits() const { return {}; }
};

/// A step that needs no pixels itself, as it moves them or runs other steps.
class GeometricTransform : public Transform {
 public:
  void plan(Sample& sample, Rng& rng) const override = 0;
  void apply(Sample& sample, Rng& rng) const final {
    plan(sample, rng);
    settle(sample);
  }
};

template <>
struct Category<Transform> {
  static constexpr std::string_view name = "transform";
  using Signature = std::unique_ptr<Transform>();
};

}  // namespace seg
