#include <algorithm>
#include <nlohmann/json.hpp>

#include "registry/log.hpp"
#include "registry/printed.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/log/progress_bar.hpp"
#include "runners/log/records.hpp"
#include "runners/visualization/run_curves.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct LoggerHookParams : HookParams {
  int64_t interval = 10;
  bool ignore_last = true;
  int64_t interval_exp_name = 1000;
  bool log_metric_by_epoch = true;
};

/// Writes the lines of the log, passes values to the visualizer, and draws the curves of the run at
/// each validation. On a terminal a progress bar stands below the lines.
class LoggerHook final : public Hook {
 public:
  using Params = LoggerHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Writes losses, rates, times and metrics into the log.")
        .source("MMEngine 0.10, LoggerHook")
        .include(HookParams::schema())
        .optional("interval", &Params::interval, "steps between lines", at_least(1))
        .optional("ignore_last", &Params::ignore_last,
                  "no line after the last steps of an epoch if fewer than the interval")
        .optional("interval_exp_name", &Params::interval_exp_name,
                  "steps between lines with the name of the run", at_least(1))
        .optional("log_metric_by_epoch", &Params::log_metric_by_epoch,
                  "metrics are recorded at the number of the epoch, not of the step")
        .accepted("out_dir", "logs stay in the work dir")
        .accepted("out_suffix", "logs stay in the work dir")
        .accepted("keep_local", "logs stay in the work dir")
        .accepted("file_client_args", "logs are local files")
        .accepted("backend_args", "logs are local files");
  }
  explicit LoggerHook(const Params& params)
      : Hook(params, Priority::kBelowNormal), params_(params) {}

  void attach(const HookTargets& targets) override {
    records_ = targets.records;
    visualizer_ = targets.visualizer;
    lines_.emplace(*targets.log_processor);
  }

  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult& step,
                        RunControl&) override {
    const int64_t inner = progress.by_epoch ? progress.step_in_epoch() : progress.iter;
    const int64_t length = progress.by_epoch ? progress.epoch_length : progress.max_iters;
    const bool end = inner == length;
    if (progress.iter % params_.interval_exp_name == 0 || (progress.by_epoch && end)) {
      log::info("Exp name: ", run.experiment_name);
    }
    if (inner % params_.interval == 0 ||
        (end && (!params_.ignore_last || length <= params_.interval))) {
      if (run.communicator) records_->train.average_over(*run.communicator);
      const LogRow row = lines_->train_row(*records_, progress, run.device);
      log::info(row.line);
      if (run.is_main()) visualizer_->add_scalars(row.scalars, progress.iter);
    }
    show_bar(run, records_->train, {"train", progress.iter, progress.max_iters, {}}, step.images);
  }

  void after_val(const RunInfo& run, const Progress& progress, const EvalResult&,
                 RunControl&) override {
    if (!run.is_main()) return;
    visualizer_->add_scalars(result_.scalars,
                             params_.log_metric_by_epoch ? progress.epoch : progress.iter);
    visualizer_->flush();
    draw_curves(run);
  }
  void after_train(const RunInfo& run, const Progress&) override {
    bar_.clear();
    if (curves_drawn_) log::info("The curves of the run are in ", run.work_dir, "/curves.png");
  }
  void on_stop(const RunInfo&, const Progress&, RunControl&) override { bar_.clear(); }

  void after_eval_iter(const RunInfo& run, const Progress& progress, const EvalInfo& eval,
                       const EvalStep& step) override {
    if (step.done() % params_.interval == 0) {
      log::info(lines_->eval_row(*records_, progress, eval, step, run.device).line);
    }
    show_bar(run, records_->eval, {eval.name(), step.done(), eval.num_batches, {}},
             static_cast<int64_t>(step.predictions->size()));
  }
  void after_eval(const RunInfo&, const Progress& progress, const EvalInfo& eval,
                  const EvalResult& result) override {
    bar_.clear();
    if (!result.table.empty()) {
      log::info("per class results:");
      log::info("\n", result.table);
    }
    result_ = lines_->result_row(*records_, progress, eval);
    log::info(result_.line);
  }
  void after_test(const RunInfo& run, const Progress&, const EvalResult&) override {
    if (!run.is_main()) return;
    nlohmann::ordered_json object = nlohmann::ordered_json::object();
    // JSON has no NaN: an absent class is null, as nlohmann writes it.
    for (const auto& [name, value] : result_.scalars) object[name] = value;
    write_file_atomically(run.log_dir + "/" + run.timestamp + ".json", object.dump() + "\n");
  }

 private:
  /// \param images  of a step in this process.
  void show_bar(const RunInfo& run, ScalarHistory& history, ProgressFacts progress,
                int64_t images) {
    // Reading values waits for a GPU.
    const double pause_s = progress.done == progress.total ? 0.0 : run.device.is_cpu() ? 0.1 : 1.0;
    if (!run.is_main() || !bar_.due(pause_s)) return;
    const auto add = [&](const char* format, double value) {
      progress.facts.push_back(printed(format, value));
    };
    if (records_->eta_s >= 0) progress.facts.push_back("eta " + duration_text(records_->eta_s));
    constexpr size_t kSteps = 10;
    if (history.has("loss")) add("loss %.4f", history.mean("loss", kSteps));
    if (history.has("time") && history.has("data_time")) {
      const double time = history.mean("time", kSteps);
      const int processes = run.communicator ? run.communicator->size() : 1;
      if (time > 0) {
        if (images > 0) {
          progress.facts.push_back(rate_text(static_cast<double>(images * processes) / time));
        }
        // As wide with one digit as with two, so that the bar keeps its length.
        add("%2.0f%% waiting for data", 100 * history.mean("data_time", kSteps) / time);
      }
    }
    bar_.show(progress);
  }

  /// A picture that cannot be drawn is no reason to end a training.
  void draw_curves(const RunInfo& run) {
    try {
      curves_drawn_ = write_run_curves(run.work_dir);
    } catch (const DataError& e) {
      if (!curves_failed_) log::warn("the curves of the run are not drawn: ", e.what());
      curves_failed_ = true;
    }
  }

  Params params_;
  Records* records_ = nullptr;
  Visualizer* visualizer_ = nullptr;
  std::optional<LogProcessor> lines_;
  LogRow result_;  ///< of the last evaluation
  ProgressBar bar_;
  bool curves_drawn_ = false, curves_failed_ = false;
};
SEG_REGISTER(Hook, LoggerHook);

}  // namespace seg
