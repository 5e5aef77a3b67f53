/// The interface of data sets.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/label_reader.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/data/transform.hpp"

namespace seg {

/// Names and colours of the classes, and what labels mean.
struct DatasetMeta {
  std::vector<std::string> classes;
  std::vector<std::array<int, 3>> palette;  ///< RGB; as long as classes, or empty
  bool reduce_zero_label = false;
  int64_t ignore_index = 255;
};

struct DatasetFacts;

/// What a data set returns in place of a sample that cannot be used.
enum class Unusable {
  kReplaced,  ///< the next good one, so that batches of training stay full
  kLeftOut,   ///< nothing: an evaluation counts each image once
};

/// Images with labels, by index. Const after construction: workers share it.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual size_t size() const = 0;
  /// The sample after its pipeline; several (with one meta.index) under test-time augmentation.
  /// \param seed, epoch  random transforms depend on these and the index alone.
  /// \param unusable  how a sample is skipped where that is allowed (`skip_corrupt: true`).
  /// \throws DataError naming the file that is missing or damaged.
  virtual std::vector<PackedSample> get(size_t index, uint64_t seed, uint64_t epoch,
                                        Unusable unusable = Unusable::kReplaced) const;
  /// The same before they are packed, for data sets that go on with them.
  virtual std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                                       Unusable unusable) const;
  virtual const DatasetMeta& meta() const = 0;
  /// Image and annotation path of a sample; neither file is read. Invented names for samples drawn
  /// in memory, "" for a missing annotation.
  virtual std::pair<std::string, std::string> paths(size_t index) const = 0;
  /// A sample before its pipeline: its files, and how raw labels map to classes. Samples drawn in
  /// memory have their image and labels already.
  virtual Sample describe(size_t index) const;
  /// `describe` with the image as the pipeline loads it, before anything changes it.
  virtual Sample with_image(size_t index) const { return describe(index); }
  /// `describe` with the labels as the pipeline loads them, before anything changes them.
  virtual Sample with_labels(size_t index) const { return describe(index); }
  /// The same labels as they are in the file.
  virtual RawLabels raw_labels(size_t index) const { return {describe(index).labels, {}}; }
  /// What files made for a sample are called: its image's path below the folder of the images,
  /// without suffix. No two images have the same.
  virtual std::string output_name(size_t index) const;
  /// Drawn in memory: `paths` names no files.
  virtual bool in_memory(size_t) const { return false; }
  /// Indices of the samples found unusable and skipped so far, rising.
  virtual std::vector<size_t> corrupt_samples() const { return {}; }
  /// Unusable samples are skipped instead of being an error.
  virtual bool skips_corrupt() const { return false; }
  /// Annotations that belong to no image, where file names alone show it.
  virtual std::vector<std::string> annotations_without_image() const { return {}; }

 protected:
  /// What `describe` gives for these files.
  Sample sample_of_files(size_t index, std::pair<std::string, std::string> paths) const;
};

template <>
struct Category<Dataset> {
  static constexpr std::string_view name = "dataset";
  using Signature = std::unique_ptr<Dataset>();
  using Facts = DatasetFacts;
};

/// What is known of a data set before it is built: no image is searched for.
struct DatasetFacts {
  std::vector<Spec<Dataset>> inner;       ///< those that a wrapper repeats or joins
  std::vector<Spec<Transform>> pipeline;  ///< of one that wraps none
  /// Empty where the config leaves labels unnamed, or names a file that cannot be read.
  std::vector<std::string> classes;
};

}  // namespace seg
