#include "runners/evaluate/evaluation_run.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "runners/dist/data_errors.hpp"
#include "runners/evaluate/corrupt_samples.hpp"
#include "runners/evaluate/input_errors.hpp"
#include "runners/evaluate/test_outputs.hpp"
#include "runners/log/records.hpp"
#include "runners/start/signals.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/models/nn/slow_bfloat16.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The samples of a batch image by image: one each, or its augmentations.
std::vector<std::vector<const PackedSample*>> by_image(const Batch& batch) {
  std::vector<std::vector<const PackedSample*>> out;
  for (const PackedSample& sample : batch.samples) {
    if (sample.meta.variant == 0) out.emplace_back();
    out.back().push_back(&sample);
  }
  return out;
}

std::optional<at::ScalarType> half_type(bool fp16, c10::Device device) {
  if (!fp16) return std::nullopt;
  return device.is_cpu() ? at::kBFloat16 : at::kHalf;
}

}  // namespace

EvaluationRun::EvaluationRun(EvaluationParts parts, const Options& options, const RunInfo& run)
    : run_(run),
      options_(options),
      loader_(std::move(parts.loader)),
      metrics_(std::move(parts.metrics)),
      needs_scores_(std::any_of(metrics_.begin(), metrics_.end(),
                                [](const auto& metric) { return metric->needs_scores(); })),
      writers_(prediction_writers(metrics_)),
      half_(half_type(parts.fp16, run.device)) {
  if (half_ && run.device.is_cpu()) warn_of_slow_bfloat16("Leave out fp16 of val_cfg and test_cfg");
  loader_->set_seed(run.seed);
  info_ = {.of_training = options.of_training,
           .dataset = &loader_->dataset(),
           .num_batches = static_cast<int64_t>(loader_->batches_per_epoch())};
  const DatasetMeta& meta = info_.dataset->meta();
  info_.palette = palette_or_default(meta.palette, static_cast<int64_t>(meta.classes.size()));
  info_.ignore_index = meta.ignore_index;
  for (const auto& metric : metrics_) {
    if (const auto ignored = metric->ignore_index()) info_.ignore_index = *ignored;
  }
}

Batch EvaluationRun::try_first_batch(const Segmentor& model) {
  loader_->start(0, 1);
  Batch batch = loader_->next().value_or(Batch{});
  loader_->stop();
  if (!batch.samples.empty()) {
    model.data_preprocessor()(batch, /*training=*/false, run_.device);
  }
  return batch;
}

bool EvaluationRun::needs_labels() const {
  return std::any_of(metrics_.begin(), metrics_.end(), [](const auto& metric) {
    const auto output = metric->output();
    return !output || !output->only;
  });
}

void EvaluationRun::write_predictions(const std::string& folder) {
  writers_.assign(1, PredictionWriter({.folder = folder, .only = false, .values = {}}));
}

void EvaluationRun::collect(TestOutputs& outputs) {
  outputs_ = &outputs;
  needs_scores_ = needs_scores_ || outputs.needs_scores();
}

std::optional<EvalResult> EvaluationRun::run(Segmentor& model, Hooks& hooks, Records& records,
                                             const Progress& progress) {
  records.eval = ScalarHistory(/*length=*/0);
  const torch::NoGradGuard no_grad;
  hooks.call(&Hook::before_eval, run_, info_);
  model.eval();
  bool finished = false;
  throw_together(*run_.communicator,
                 data_error_in([&] { finished = predict_all(model, hooks, progress); }));
  if (!finished) {
    for (auto& metric : metrics_) metric->compute(*run_.communicator);  // starts it afresh
    return std::nullopt;
  }
  report_corrupt();
  EvalResult result = compute_metrics();
  hooks.call(&Hook::after_eval, run_, progress, info_, result);
  return result;
}

bool EvaluationRun::predict_all(Segmentor& model, Hooks& hooks, const Progress& progress) {
  loader_->start(0, static_cast<uint64_t>(info_.num_batches));
  for (int64_t i = 0;; ++i) {
    const auto batch = loader_->next();
    if (!batch) break;
    hooks.call(&Hook::before_eval_iter, run_, info_);
    const std::vector<Prediction> predictions = predict(model, *batch);
    const std::vector<PackedSample> truths = this->truths(*batch);
    measure(truths, predictions);
    const EvalStep step{
        .batch_index = i, .batch = &*batch, .predictions = &predictions, .truths = &truths};
    hooks.call(&Hook::after_eval_iter, run_, progress, info_, step);
    // Ranks may have different numbers of batches, so all must finish to agree; one alone may stop.
    if (stop_signal() != 0 && run_.communicator->size() == 1) {
      loader_->stop();
      return false;
    }
  }
  loader_->stop();
  return true;
}

std::vector<Prediction> EvaluationRun::predict(Segmentor& model, const Batch& batch) const {
  if (batch.samples.empty()) return {};
  const Autocast precision(run_.device.type(), half_);
  if (options_.tta) return predict_augmented(model, batch);
  for (const PackedSample& sample : batch.samples) {
    if (sample.meta.variant == 0) continue;
    throw DataError(text(sample.meta.img_path,
                         ": the pipeline makes several augmentations of an image "
                         "(TestTimeAug), which only a test with --tta or PrepareTTAHook joins"));
  }
  const ModelInput input = model.data_preprocessor()(batch, /*training=*/false, run_.device);
  return with_input_errors(model, input, [&] { return predict_inputs(model, {input}); });
}

std::vector<Prediction> EvaluationRun::predict_augmented(Segmentor& model,
                                                         const Batch& batch) const {
  const auto images = by_image(batch);
  std::vector<ModelInput> augmented;
  for (size_t i = 0; i < images.front().size(); ++i) {
    Batch one;
    for (const auto& augmentations : images) {
      SEG_CHECK(augmentations.size() == images.front().size(),
                "images of one batch have different numbers of augmentations");
      one.samples.push_back(*augmentations[i]);
    }
    augmented.push_back(model.data_preprocessor()(one, /*training=*/false, run_.device));
  }
  return predict_inputs(model, augmented);
}

std::vector<Prediction> EvaluationRun::predict_inputs(Segmentor& model,
                                                      const std::vector<ModelInput>& inputs) const {
  if (needs_scores_) return model.predict_scores(inputs);
  return options_.tta ? model.predict_tta(inputs) : model.predict(inputs.at(0));
}

std::vector<PackedSample> EvaluationRun::truths(const Batch& batch) const {
  std::vector<PackedSample> out;
  for (const auto& augmentations : by_image(batch)) out.push_back(truth_of(*augmentations.front()));
  return out;
}

void EvaluationRun::measure(const std::vector<PackedSample>& truths,
                            const std::vector<Prediction>& predictions) {
  SEG_CHECK(predictions.size() == truths.size(), "expected a prediction for each image");
  for (size_t i = 0; i < truths.size(); ++i) {
    for (const auto& writer : writers_) {
      writer.write(predictions[i],
                   loader_->dataset().output_name(static_cast<size_t>(truths[i].meta.index)),
                   truths[i].meta, info_.palette);
    }
    for (auto& metric : metrics_) metric->process(predictions[i], truths[i]);
    if (outputs_) outputs_->add(predictions[i], truths[i], info_.ignore_index);
  }
}

PackedSample EvaluationRun::truth_of(const PackedSample& sample) const {
  if (!options_.tta) return sample;
  // Labels of files are loaded after the augmentation, as they are; drawn ones went through it.
  Sample raw = loader_->dataset().describe(static_cast<size_t>(sample.meta.index));
  return raw.labels.empty() ? sample : pack(std::move(raw));
}

void EvaluationRun::report_corrupt() const {
  const auto all = static_cast<int64_t>(loader_->dataset().size());
  const int64_t corrupt = count_corrupt(loader_->dataset(), *run_.communicator);
  if (corrupt == all) {
    throw DataError(text(info_.name(), ": none of the ", all, " samples can be used"));
  }
  if (corrupt == 0 || !run_.is_main()) return;
  log::warn(info_.name(), ": corrupt samples left out of the metrics: ", corrupt, " of ", all);
}

EvalResult EvaluationRun::compute_metrics() {
  EvalResult out;
  Scalars classes;
  for (auto& metric : metrics_) {
    const MetricResult result = metric->compute(*run_.communicator);
    if (const auto output = metric->output(); output && output->only) {
      for (const auto& writer : writers_) log::info("predictions are in ", writer.folder());
    }
    out.metrics.insert(out.metrics.end(), result.scalars.begin(), result.scalars.end());
    classes.insert(classes.end(), result.per_class.begin(), result.per_class.end());
    if (!result.table.empty()) out.table += (out.table.empty() ? "" : "\n") + result.table;
  }
  out.metrics.insert(out.metrics.end(), classes.begin(), classes.end());
  return out;
}

}  // namespace seg
