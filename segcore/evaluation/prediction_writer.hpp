/// Writes the predictions of an evaluation as files.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/data/palette.hpp"
#include "segcore/evaluation/metric.hpp"

namespace seg {

/// Class ids of each image as <folder>/<name>.png, one more each where the data set has
/// `reduce_zero_label`, as they are in its annotations; or the values that a metric asks for. Of an
/// image with a georeference class ids are written as <folder>/<name>.tif, which has it, too.
/// Depth is written as PNG of 16 bits, times 1000 or the factor that a metric asks for.
class PredictionWriter {
 public:
  explicit PredictionWriter(const PredictionOutput& output) : output_(output) {}
  /// \param name  as Dataset::output_name.
  void write(const Prediction& prediction, const std::string& name, const SampleMeta& meta,
             const Palette& palette) const;
  const std::string& folder() const { return output_.folder; }

 private:
  PredictionOutput output_;
};

/// One writer for each folder that the metrics name.
std::vector<PredictionWriter> prediction_writers(
    const std::vector<std::unique_ptr<Metric>>& metrics);

}  // namespace seg
