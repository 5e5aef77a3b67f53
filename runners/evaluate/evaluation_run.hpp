/// Predicts a data set and measures it: the validations and tests of a run.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runners/hooks/hook.hpp"
#include "runners/start/parts.hpp"
#include "segcore/evaluation/prediction_writer.hpp"

namespace seg {

class TestOutputs;

/// A data set with its metrics, ready to be evaluated several times.
class EvaluationRun {
 public:
  struct Options {
    bool of_training = true;  ///< a validation; else a test
    /// The pipeline of the data set makes several augmentations of each image.
    bool tta = false;
  };
  EvaluationRun(EvaluationParts parts, const Options& options, const RunInfo& run);

  /// Predicts all samples with the model in evaluation mode. Unusable samples, where the data set
  /// allows them, count nowhere and are reported.
  /// \return nothing where a signal interrupted it.
  std::optional<EvalResult> run(Segmentor& model, Hooks& hooks, Records& records,
                                const Progress& progress);
  /// Loads and joins the images of the first batch, to find what would end a validation hours
  /// later. Empty where the first samples cannot be used. \throws DataError
  Batch try_first_batch(const Segmentor& model);
  /// Some metric compares the predictions with labels.
  bool needs_labels() const;
  /// Writes the class ids of each image into the folder from now on.
  void write_predictions(const std::string& folder);
  /// The colours of classes in pictures; those of the data set where it is not called.
  void set_palette(Palette palette) { info_.palette = std::move(palette); }
  /// From now on collects what a test writes besides its metrics. Borrowed.
  void collect(TestOutputs& outputs);
  const Dataset& dataset() const { return loader_->dataset(); }

 private:
  /// \return whether all samples were predicted.
  bool predict_all(Segmentor& model, Hooks& hooks, const Progress& progress);
  std::vector<Prediction> predict(Segmentor& model, const Batch& batch) const;
  std::vector<Prediction> predict_augmented(Segmentor& model, const Batch& batch) const;
  /// \param inputs  one for each augmentation. With scores where a metric needs them.
  std::vector<Prediction> predict_inputs(Segmentor& model,
                                         const std::vector<ModelInput>& inputs) const;
  /// The samples that predictions are compared with, one for each image.
  std::vector<PackedSample> truths(const Batch& batch) const;
  void measure(const std::vector<PackedSample>& truths, const std::vector<Prediction>& predictions);
  /// The sample with the labels that its prediction is compared with.
  PackedSample truth_of(const PackedSample& sample) const;
  void report_corrupt() const;
  EvalResult compute_metrics();

  const RunInfo& run_;
  Options options_;
  std::unique_ptr<DataLoader> loader_;
  std::vector<std::unique_ptr<Metric>> metrics_;
  bool needs_scores_;
  std::vector<PredictionWriter> writers_;
  std::optional<at::ScalarType> half_;  ///< type of predictions in half precision
  EvalInfo info_;
  TestOutputs* outputs_ = nullptr;
};

}  // namespace seg
