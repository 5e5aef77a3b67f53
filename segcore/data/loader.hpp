/// Loads batches in threads ahead of their use.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "segcore/data/dataset.hpp"
#include "segcore/data/samplers.hpp"

namespace seg {

/// The options of train_dataloader, val_dataloader and test_dataloader.
struct DataLoaderParams {
  int64_t batch_size = 1;
  int64_t num_workers = 0;
  Spec<Dataset> dataset;
  /// Empty: DefaultSampler, which shuffles for training.
  std::optional<Spec<Sampler>> sampler;
  bool persistent_workers = false;
  std::optional<bool> pin_memory;  ///< empty: where a GPU is used
  bool drop_last = false;
  std::optional<int64_t> prefetch_factor;
  std::optional<int64_t> num_batch_per_epoch;

  static Schema<DataLoaderParams> schema();
};

/// What a loader knows only from the running program.
struct LoaderPlace {
  uint64_t seed = 0;
  int rank = 0;
  int world_size = 1;
  /// Evaluation drops the samples that a sampler repeats to give all ranks the same number, so that
  /// each sample counts once; ranks may then have different numbers of batches. It also leaves out
  /// unusable samples, so that a batch may be short or empty.
  bool training = true;
};

/// Batches in order, the same for any number of workers and any starting point.
///
/// Use: `loader.start(b)`, then `next()` until it returns nothing. Batches are numbered from the
/// start of the run; an epoch has `batches_per_epoch()` of them. Not thread-safe.
class DataLoader {
 public:
  /// \throws DataError where there are too few samples for a single batch.
  DataLoader(const DataLoaderParams& params, std::shared_ptr<const Dataset> dataset,
             const LoaderPlace& place);
  /// Builds the data set too.
  DataLoader(const DataLoaderParams& params, const LoaderPlace& place);
  ~DataLoader();  ///< stops the workers; waits only for the samples in hand
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  const Dataset& dataset() const;
  std::shared_ptr<const Dataset> shared_dataset() const;
  int64_t batch_size() const;
  /// Samples of the shortest batch of a pass.
  int64_t smallest_batch() const;
  /// Before the first start: replaces the seed of the place, which the processes of a run agree on
  /// only after their loaders are built.
  void set_seed(uint64_t seed);
  /// Batches of this rank in one pass; of an endless sampler, as many as hold the whole data set
  /// once over all ranks.
  uint64_t batches_per_epoch() const;

  /// Starts to load batches first <= b < end; drops whatever was loaded before.
  void start(uint64_t first = 0, uint64_t end = UINT64_MAX);
  /// The next batch, or nothing at `end`.
  /// \throws whatever the data set threw, in place of the batch that failed; DataError texts name
  ///         the file. The loader must then be restarted.
  std::optional<Batch> next();
  /// Drops what is loaded ahead.
  void stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace seg
