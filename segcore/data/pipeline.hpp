/// A data pipeline: the transforms that a sample goes through, and the packing at its end.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "segcore/data/label_reader.hpp"
#include "segcore/data/transform.hpp"

namespace seg {

/// An image that cannot be read by a step with `ignore_empty: true`: in training the data set then
/// gives another sample.
class EmptySample : public DataError {
  using DataError::DataError;
};

/// Whether steps that mix several samples can be among those of a pipeline.
enum class Mixing { kRefused, kAllowed };

/// The `pipeline` of a data set. Const after construction: workers share it.
class Pipeline {
 public:
  /// Another sample of the data set, for a step that mixes.
  using Others = std::function<Sample(Rng&)>;

  /// \throws ConfigError for an order of the steps that cannot work.
  explicit Pipeline(const std::vector<Spec<Transform>>& steps, Mixing mixing = Mixing::kRefused);

  /// Runs a sample through all steps and packs what comes out: one, or several under test-time
  /// augmentation. The randomness is that of (seed, kAugmentation, epoch, sample.meta.index).
  /// \throws DataError naming the file at fault.
  std::vector<PackedSample> operator()(Sample sample, uint64_t seed, uint64_t epoch) const;
  /// Runs only the steps up to the one that gives the sample an image.
  Sample load_image(Sample sample) const;
  /// Runs only the step that loads the labels; none where there is no such step.
  Sample load_labels(Sample sample) const;
  /// The step that reads labels; null where there is none.
  const LabelReader* label_reader() const;
  /// Runs all steps without packing.
  std::vector<Sample> run(Sample sample, Rng& rng, const Others& others = {}) const;
  /// The same with the randomness of (seed, kAugmentation, epoch, sample.meta.index).
  std::vector<Sample> run(Sample sample, uint64_t seed, uint64_t epoch,
                          const Others& others = {}) const;
  /// Some step loads labels, also inside of other steps.
  bool loads_labels() const;
  size_t size() const { return steps_.size(); }
  TransformTraits traits(size_t step) const { return steps_.at(step)->traits(); }

 private:
  std::vector<std::unique_ptr<Transform>> steps_;
};

/// A pipeline for images that have no labels, split where the image is in memory as it was loaded.
struct SplitPipeline {
  Pipeline load, rest;
};
/// Steps that concern labels alone are left out; an image is loaded by LoadImageFromFile where no
/// step loads it.
/// \throws ConfigError as the pipeline itself.
SplitPipeline split_after_loading(const std::vector<Spec<Transform>>& steps);

/// Turns a sample into tensors; they share the memory of its image and labels.
PackedSample pack(Sample sample);

}  // namespace seg
