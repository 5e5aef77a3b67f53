/// The interface of data sets.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/sample.hpp"

namespace seg {

/// Names and colours of the classes, and what labels mean.
struct DatasetMeta {
  std::vector<std::string> classes;
  std::vector<std::array<int, 3>> palette;  ///< RGB; as long as classes, or empty
  bool reduce_zero_label = false;
  int64_t ignore_index = 255;
};

/// What a data set gives in place of a sample that cannot be used.
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
  /// \param seed, epoch  with the index, all that random transforms depend on.
  /// \param unusable  how a sample is passed over where that is allowed (`skip_corrupt: true`).
  /// \throws DataError naming the file that is missing or damaged.
  virtual std::vector<PackedSample> get(size_t index, uint64_t seed, uint64_t epoch,
                                        Unusable unusable = Unusable::kReplaced) const = 0;
  virtual const DatasetMeta& meta() const = 0;
  /// Image and annotation path of a sample, without reading them; made-up names for samples that
  /// are drawn in memory, "" for a missing annotation.
  virtual std::pair<std::string, std::string> paths(size_t index) const = 0;
  /// What a sample is before its pipeline: its files, and how raw labels become classes. Samples
  /// that are drawn in memory have their image and labels too.
  virtual Sample describe(size_t index) const;
  /// `describe` with the image as the pipeline loads it, before anything changes it.
  virtual Sample with_image(size_t index) const { return describe(index); }
  /// Drawn in memory: `paths` names no files.
  virtual bool in_memory(size_t) const { return false; }
  /// The indices of the samples that were found unusable and passed over so far, rising.
  virtual std::vector<size_t> corrupt_samples() const { return {}; }
  /// Unusable samples are passed over and not an error.
  virtual bool skips_corrupt() const { return false; }
  /// Annotations that belong to no image, where that can be said without reading them.
  virtual std::vector<std::string> annotations_without_image() const { return {}; }
};

template <>
struct Category<Dataset> {
  static constexpr std::string_view name = "dataset";
  using Signature = std::unique_ptr<Dataset>();
};

}  // namespace seg
