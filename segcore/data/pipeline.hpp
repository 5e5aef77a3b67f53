/// A data pipeline: the transforms that a sample goes through, and the packing at its end.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/data/transform.hpp"

namespace seg {

/// Thrown by a pipeline whose loader says `ignore_empty: true` for an image that cannot be read: a
/// data set of training then gives another sample.
class EmptySample : public DataError {
  using DataError::DataError;
};

/// The `pipeline` of a data set. Const after construction: workers share it.
class Pipeline {
 public:
  /// \throws ConfigError for an order of the steps that cannot work.
  explicit Pipeline(const std::vector<Spec<Transform>>& steps);

  /// Runs a sample through all steps and packs what comes out: one, or several under test-time
  /// augmentation. The randomness is that of (seed, kAugmentation, epoch, sample.meta.index).
  /// \throws DataError naming the file at fault.
  std::vector<PackedSample> operator()(Sample sample, uint64_t seed, uint64_t epoch) const;
  /// Only the steps that it takes for the sample to have an image.
  Sample load_image(Sample sample) const;
  /// All steps without the packing, for those who look at images.
  std::vector<Sample> run(Sample sample, Rng& rng) const;

 private:
  std::vector<std::unique_ptr<Transform>> steps_;
};

/// Turns a sample into tensors; they share the memory of its image and labels.
PackedSample pack(Sample sample);

}  // namespace seg
