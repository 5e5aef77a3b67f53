/// Writes the predictions of an evaluation as pictures of class ids.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/data/palette.hpp"
#include "segcore/evaluation/metric.hpp"

namespace seg {

/// Class ids of each image as <folder>/<name>.png, one more each where the data set has
/// `reduce_zero_label`, as they are in its annotations; or the values that a metric asks for.
class PredictionWriter {
 public:
  explicit PredictionWriter(std::string folder, std::vector<uint8_t> values = {})
      : folder_(std::move(folder)), values_(std::move(values)) {}
  /// \param ids  int64 [H, W]
  /// \param name  as Dataset::output_name.
  void write(const at::Tensor& ids, const std::string& name, const SampleMeta& meta,
             const Palette& palette) const;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  std::vector<uint8_t> values_;
};

/// One writer for each folder that the metrics name.
std::vector<PredictionWriter> prediction_writers(
    const std::vector<std::unique_ptr<Metric>>& metrics);

}  // namespace seg
