/// Predicts a data set and measures it: the validations and tests of a run.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runners/hooks/run_context.hpp"
#include "runners/start/parts.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/evaluation/prediction_writer.hpp"

namespace seg {

/// A data set with its metrics, ready to be evaluated several times.
class EvaluationRun {
 public:
  /// \param tta  the pipeline of the data set makes several augmentations of each image.
  EvaluationRun(const DataLoaderParams& loader, EvaluationParts parts, bool tta,
                const RunContext& context);

  /// Runs all batches; the metrics are then in the context. Hooks see it as `phase`. Samples that
  /// cannot be used, where the data set passes over such, count nowhere and are told of.
  /// \return false where a signal ended it before its time.
  bool run(RunContext& context, Phase phase);
  /// What the metrics will be called.
  std::vector<std::string> metric_names(Communicator& communicator);
  /// Writes the class ids of each image into the folder.
  void write_predictions(const std::string& folder);
  const Dataset& dataset() const { return loader_.dataset(); }

 private:
  std::vector<Prediction> predict(const Batch& batch, RunContext& context) const;
  /// \param inputs  one for each augmentation; with scores where a metric needs them.
  std::vector<Prediction> predict_inputs(Segmentor& model,
                                         const std::vector<ModelInput>& inputs) const;
  /// The sample with its labels as the prediction is to be compared with them.
  PackedSample truth_of(const PackedSample& sample) const;
  void tell_left_out(const RunContext& context) const;
  void collect(RunContext& context);

  DataLoader loader_;
  std::vector<std::unique_ptr<Metric>> metrics_;
  std::vector<PredictionWriter> writers_;
  bool fp16_, tta_;
};

/// For an input that a model failed on: says so where it is of another number of bands than the
/// model takes. \throws DataError
void check_bands(const Segmentor& model, const ModelInput& input);

/// The same where a prediction failed, and for a small image, that no map is left of. Returns where
/// the input may not be the reason. \throws DataError
void tell_of_input(const Segmentor& model, const ModelInput& input, const c10::Error& e);

/// Calls one stage of all hooks.
void call_hooks(RunContext& context, void (Hook::*stage)(RunContext&));

}  // namespace seg
