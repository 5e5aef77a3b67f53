/// The interface of metrics over a data set.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

/// The result of an evaluation.
struct MetricResult {
  /// In the order of the log line ("aAcc", "mIoU", "mAcc"); IoUMetric's are in
  /// percent with two decimals.
  std::vector<std::pair<std::string, double>> scalars;
  /// "IoU.road" and so on, likewise; for scalars.json and `save_best`. NaN for an absent class.
  std::vector<std::pair<std::string, double>> per_class;
  std::string table;  ///< of the classes, for the log; without a newline at its end
};

/// Where a metric's options ask for predictions to be written. The evaluation writes them.
struct PredictionOutput {
  std::string folder;           ///< empty: only where the command line names one
  bool only = false;            ///< predictions are all that is wanted: nothing is computed
  std::vector<uint8_t> values;  ///< what class ids are in the files; empty: as they are
  double depth_scale = 1000;    ///< factor of estimated depth in the files
};

/// The classes that a metric measures. \throws DataError naming the image, where the model
/// estimates depth instead.
const at::Tensor& class_ids_of(const Prediction& prediction, const PackedSample& sample);

/// Accumulates over the images of a data set, and computes at the end. Memory does not grow with
/// the number of images.
class Metric {
 public:
  virtual ~Metric() = default;
  /// The evaluation asks the model for scores only where a metric needs them.
  virtual bool needs_scores() const { return false; }
  /// \param prediction  at the size of the labels, on any device; with scores if they are needed.
  /// \param sample  the labels, and where they come from.
  /// \throws DataError naming the image, where sizes differ or labels are missing.
  virtual void process(const Prediction& prediction, const PackedSample& sample) = 0;
  /// Results over all processes, the same in each of them; resets the metric.
  virtual MetricResult compute(Communicator& communicator) = 0;
  virtual std::optional<PredictionOutput> output() const { return std::nullopt; }
  /// The label of pixels that it leaves out, besides that of the data set.
  virtual std::optional<int64_t> ignore_index() const { return std::nullopt; }
};

template <>
struct Category<Metric> {
  static constexpr std::string_view name = "metric";
  using Signature = std::unique_ptr<Metric>(const DatasetMeta&);
};

}  // namespace seg
