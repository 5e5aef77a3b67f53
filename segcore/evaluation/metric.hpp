/// The interface of metrics over a data set.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

/// What came out of an evaluation.
struct MetricResult {
  /// In the order of the log line ("aAcc", "mIoU", "mAcc"), in percent, two decimals.
  std::vector<std::pair<std::string, double>> scalars;
  /// "IoU.road" and so on, likewise; for scalars.json and `save_best`. NaN for an absent class.
  std::vector<std::pair<std::string, double>> per_class;
  std::string table;  ///< of the classes, for the log; without a newline at its end
};

/// Collects what it must know of each image, and computes at the end. Its memory does not grow with
/// the number of images.
class Metric {
 public:
  virtual ~Metric() = default;
  /// \param prediction  int64 [H, W], class ids at the size of the labels, on any device.
  /// \param sample  its labels and where it comes from.
  /// \throws DataError naming the image, where sizes differ or labels are missing.
  virtual void process(const at::Tensor& prediction, const PackedSample& sample) = 0;
  /// Results over all processes; the same in each of them. Begins anew.
  virtual MetricResult compute(Communicator& communicator) = 0;
  /// Writes the class ids of each image as <folder>/<stem>.png from now on.
  virtual void write_predictions(const std::string& folder) = 0;
};

template <>
struct Category<Metric> {
  static constexpr std::string_view name = "metric";
  using Signature = std::unique_ptr<Metric>(const DatasetMeta&);
};

}  // namespace seg
