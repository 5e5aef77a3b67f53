#include "runners/evaluate/evaluation_run.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "runners/evaluate/corrupt_samples.hpp"
#include "runners/evaluate/image_size.hpp"
#include "runners/start/signals.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/dist/communicator.hpp"

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

LoaderPlace evaluation_place(const RunContext& context) {
  return {.seed = context.seed,
          .rank = context.communicator->rank(),
          .world_size = context.communicator->size(),
          .training = false};
}

}  // namespace

void check_bands(const Segmentor& model, const ModelInput& input) {
  const int64_t given = input.images.size(1);
  const auto taken = model.bands();
  if (!taken || *taken == given) return;
  throw DataError(text(input.metas.empty() ? "" : input.metas[0].img_path + ": ", "has ", given,
                       " bands, the model takes ", *taken,
                       ": set model.backbone.in_channels, or load other bands"));
}

void tell_of_input(const Segmentor& model, const ModelInput& input, const c10::Error& e) {
  check_bands(model, input);
  // Networks halve their input five or six times, and look at windows of what is left.
  constexpr int64_t kSmall = 64;
  const int64_t height = input.images.size(2), width = input.images.size(3);
  if (std::min(height, width) >= kSmall) return;
  const std::string why = e.what_without_backtrace();
  throw DataError(
      text(input.metas.empty() ? "" : input.metas[0].img_path + ": ", height, "x", width,
           " pixels are too few for this model (", why.substr(0, why.find('\n')),
           "); pad images with model.data_preprocessor.test_cfg: {size_divisor: ", kSmall, "}"));
}

void call_hooks(RunContext& context, void (Hook::*stage)(RunContext&)) {
  for (HookEntry& entry : *context.hooks) ((*entry.hook).*stage)(context);
}

EvaluationRun::EvaluationRun(const DataLoaderParams& loader, EvaluationParts parts, bool tta,
                             const RunContext& context)
    : loader_(loader, std::move(parts.dataset), evaluation_place(context)),
      metrics_(std::move(parts.metrics)),
      writers_(prediction_writers(metrics_)),
      fp16_(parts.fp16),
      tta_(tta) {}

std::vector<std::string> EvaluationRun::metric_names(Communicator& communicator) {
  std::vector<std::string> names, classes;
  for (auto& metric : metrics_) {
    const MetricResult empty = metric->compute(communicator);
    for (const auto& [name, value] : empty.scalars) names.push_back(name);
    for (const auto& [name, value] : empty.per_class) classes.push_back(name);
  }
  names.insert(names.end(), classes.begin(), classes.end());
  return names;
}

void EvaluationRun::write_predictions(const std::string& folder) {
  writers_.assign(1, PredictionWriter(folder));
}

std::vector<Prediction> EvaluationRun::predict_inputs(Segmentor& model,
                                                      const std::vector<ModelInput>& inputs) const {
  const bool needs_scores = std::any_of(metrics_.begin(), metrics_.end(),
                                        [](const auto& metric) { return metric->needs_scores(); });
  if (needs_scores) return model.predict_scores(inputs);
  std::vector<Prediction> out;
  for (at::Tensor& ids : tta_ ? model.predict_tta(inputs) : model.predict(inputs.at(0))) {
    out.push_back({.ids = std::move(ids)});
  }
  return out;
}

std::vector<Prediction> EvaluationRun::predict(const Batch& batch, RunContext& context) const {
  Segmentor& model = *context.model;
  const DataPreProcessor& preprocess = model.data_preprocessor();
  std::optional<at::ScalarType> half;
  if (fp16_) half = context.device.is_cpu() ? at::kBFloat16 : at::kHalf;
  const Autocast precision(context.device.type(), half);
  if (batch.samples.empty()) return {};
  if (!tta_) {
    for (const PackedSample& sample : batch.samples) {
      if (sample.meta.variant == 0) continue;
      throw DataError(text(sample.meta.img_path,
                           ": the pipeline makes several augmentations of an image "
                           "(TestTimeAug), which only a test with --tta joins"));
    }
    const ModelInput input = preprocess(batch, /*training=*/false, context.device);
    try {
      return predict_inputs(model, {input});
    } catch (const c10::Error& e) {
      tell_of_input(model, input, e);
      throw;
    }
  }

  const auto images = by_image(batch);
  std::vector<ModelInput> augmented;
  for (size_t i = 0; i < images.front().size(); ++i) {
    Batch one;
    for (const auto& augmentations : images) {
      SEG_CHECK(augmentations.size() == images.front().size(),
                "images of one batch have different numbers of augmentations");
      one.samples.push_back(*augmentations[i]);
    }
    augmented.push_back(preprocess(one, /*training=*/false, context.device));
  }
  return predict_inputs(model, augmented);
}

PackedSample EvaluationRun::truth_of(const PackedSample& sample) const {
  if (!tta_) return sample;
  // Labels of files are loaded after the augmentation, as they are; drawn ones went through it.
  Sample raw = loader_.dataset().describe(static_cast<size_t>(sample.meta.index));
  return raw.labels.empty() ? sample : pack(std::move(raw));
}

bool EvaluationRun::run(RunContext& context, Phase phase) {
  const Phase outer = context.phase;
  const int64_t outer_index = context.batch_index, outer_count = context.batch_count;
  context.phase = phase;
  context.eval_dataset = &loader_.dataset();
  context.batch_count = static_cast<int64_t>(loader_.batches_per_epoch());
  context.metrics.clear();
  context.metric_table.clear();
  context.log() = ScalarHistory(/*length=*/0);
  const torch::NoGradGuard no_grad;
  call_hooks(context, &Hook::before_val);
  context.model->eval();

  loader_.start(0, static_cast<uint64_t>(context.batch_count));
  for (context.batch_index = 0;; ++context.batch_index) {
    const auto batch = loader_.next();
    if (!batch) break;
    context.batch = &*batch;
    call_hooks(context, &Hook::before_iter);
    const std::vector<Prediction> predictions = predict(*batch, context);
    const auto images = by_image(*batch);
    SEG_CHECK(predictions.size() == images.size(), "expected a prediction for each image");
    std::vector<at::Tensor> ids;
    for (size_t i = 0; i < images.size(); ++i) {
      const PackedSample truth = truth_of(*images[i].front());
      ids.push_back(predictions[i].ids);
      for (const auto& writer : writers_) writer.write(predictions[i].ids, truth.meta);
      for (auto& metric : metrics_) metric->process(predictions[i], truth);
    }
    context.predictions = &ids;
    call_hooks(context, &Hook::after_iter);
    context.predictions = nullptr;
    context.batch = nullptr;
    // Ranks may have different numbers of batches, so all must finish to agree; one alone may stop.
    if (stop_signal() != 0 && context.communicator->size() == 1) {
      context.interrupted = true;
      break;
    }
  }
  loader_.stop();
  if (context.interrupted) {
    for (auto& metric : metrics_) metric->compute(*context.communicator);
  } else {
    tell_left_out(context);
    collect(context);
  }
  call_hooks(context, &Hook::after_val);
  context.model->train(outer == Phase::kTrain);
  context.phase = outer;
  context.batch_index = outer_index;
  context.batch_count = outer_count;
  context.eval_dataset = nullptr;
  return !context.interrupted;
}

void EvaluationRun::tell_left_out(const RunContext& context) const {
  const auto all = static_cast<int64_t>(loader_.dataset().size());
  const int64_t left_out = count_corrupt(loader_.dataset(), *context.communicator);
  const char* phase = phase_name(context.phase);
  if (left_out == all) throw DataError(text(phase, ": not one of ", all, " samples can be used"));
  if (left_out == 0 || !context.is_main()) return;
  log::warn(phase, ": ", left_out, " of ", all, left_out == 1 ? " samples is" : " samples are",
            " corrupt and left out of the metrics");
}

void EvaluationRun::collect(RunContext& context) {
  Scalars classes;
  for (auto& metric : metrics_) {
    const MetricResult result = metric->compute(*context.communicator);
    if (const auto output = metric->output(); output && output->only) {
      for (const auto& writer : writers_) log::info("predictions are in ", writer.folder());
    }
    context.metrics.insert(context.metrics.end(), result.scalars.begin(), result.scalars.end());
    classes.insert(classes.end(), result.per_class.begin(), result.per_class.end());
    if (!result.table.empty()) {
      context.metric_table += (context.metric_table.empty() ? "" : "\n") + result.table;
    }
  }
  context.metrics.insert(context.metrics.end(), classes.begin(), classes.end());
}

}  // namespace seg
