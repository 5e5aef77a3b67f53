#include "runners/evaluate/test_run.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "runners/evaluate/evaluation_run.hpp"
#include "runners/evaluate/object_scale.hpp"
#include "runners/evaluate/run_palette.hpp"
#include "runners/evaluate/test_outputs.hpp"
#include "runners/log/flight_record.hpp"
#include "runners/log/records.hpp"
#include "runners/start/class_lists.hpp"
#include "runners/start/ensemble_config.hpp"
#include "runners/start/joined_run.hpp"
#include "runners/start/session.hpp"
#include "runners/start/signals.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/models/nn/uses_communicator.hpp"

namespace seg {
namespace {

/// How far the run had come that wrote the checkpoint.
Progress saved_progress(const Value& checkpoint) {
  Progress out;
  const Value* meta = checkpoint.find("meta");
  if (!meta) return out;
  if (const Value* iter = meta->find("iter"); iter && iter->is_int()) out.iter = iter->as_int();
  if (const Value* epoch = meta->find("epoch"); epoch && epoch->is_int()) {
    out.epoch = epoch->as_int();
  }
  return out;
}

bool joins_augmentations(const TestOptions& options, const Hooks& hooks) {
  return options.tta || std::ranges::any_of(hooks.entries(), [](const HookEntry& entry) {
           return entry.hook->joins_augmentations();
         });
}

Scalars test_weights(const RunInfo& run, RunParts parts, const Value& contents,
                     const std::string& checkpoint, const TestOptions& options) {
  flight_recorder().enter("test");
  EvaluationRun test(std::move(*parts.test),
                     {.of_training = false, .tta = joins_augmentations(options, parts.hooks)}, run);
  if (run.is_main()) {
    log::info(check_files(test.dataset(), "test", test.needs_labels()));
    const std::string warning = test_scale_warning(*run.config, test.dataset());
    if (!warning.empty()) log::warn(warning);
  }
  if (options.out) test.write_predictions(*options.out);
  test.set_palette(
      run_palette(options.palette, &test.dataset().meta(), contents, parts.model->num_classes()));
  TestOutputs outputs(options, test.dataset(), *run.communicator);
  test.collect(outputs);
  set_communicator(*parts.model, run.communicator);
  const LoadReport report = load_whole_model(*parts.model, contents, checkpoint);
  if (!report.exact()) log::warn(checkpoint, ":\n", report.text());
  log::info("Load checkpoint from ", checkpoint);

  Records records;
  const auto visualizer = build_visualizer(
      *run.config, {.folder = run.log_dir + "/vis_data", .timestamp = run.timestamp});
  parts.hooks.call(&Hook::attach, HookTargets{.model = parts.model.get(),
                                              .records = &records,
                                              .visualizer = visualizer.get(),
                                              .log_processor = &run.config->log_processor});
  watch_stop_signals();
  const Progress progress = saved_progress(contents);
  const auto result = test.run(*parts.model, parts.hooks, records, progress);
  if (!result) {
    throw RunEnded(kStoppedBySignal,
                   text("stopped by ", stop_signal_name(stop_signal()), " during the test"));
  }
  outputs.write(*run.communicator);
  parts.hooks.call(&Hook::after_test, run, progress, *result);
  visualizer->flush();
  return result->metrics;
}

}  // namespace

Scalars run_test(const RunConfig& config, const std::string& checkpoint,
                 const TestOptions& options) {
  if (!config.test_dataloader) {
    Diagnostics problems;
    problems.error(config.tree.origin, "", "testing needs 'test_dataloader' in the configuration");
    throw ConfigError(problems);
  }
  // A wrong name is the most common mistake: before anything is built or written.
  const Value contents = weights_of_command(config.tree, checkpoint);
  check_saved_classes(config.test_dataloader->dataset, contents, checkpoint);
  auto [session, parts] = start_run(config, {.test = true});
  Scalars metrics;
  run_joined(session.run, [&] {
    metrics = test_weights(session.run, std::move(parts), contents, checkpoint, options);
  });
  return metrics;
}

}  // namespace seg
