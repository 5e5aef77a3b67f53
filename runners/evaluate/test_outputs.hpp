/// What a test writes besides its metrics: scores of single images, the confusion matrix,
/// probabilities, the page of the pictures.
#pragma once
#include <optional>
#include <string>

#include "runners/evaluate/soft_prediction_file.hpp"
#include "runners/start/options.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/evaluation/confusion_matrix.hpp"
#include "segcore/evaluation/image_scores.hpp"

namespace seg {

class TestOutputs {
 public:
  /// \param options, dataset  must outlive it.
  /// \throws FileError
  TestOutputs(const TestOptions& options, const Dataset& dataset, const Communicator& communicator);
  /// Whether predictions are added with their probabilities.
  bool needs_scores() const { return probabilities_.has_value(); }
  /// \throws DataError naming an image without labels where options need them.
  void add(const Prediction& prediction, const PackedSample& truth, int64_t ignore_index);
  /// Writes the files in the main process. Collective. \throws FileError
  void write(Communicator& communicator);

 private:
  const TestOptions& options_;
  const Dataset& dataset_;
  int64_t classes_;
  std::optional<ImageScores> scores_;
  std::optional<ConfusionMatrix> confusion_;
  std::optional<SoftPredictionFile> probabilities_;
};

}  // namespace seg
