#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "registry/log.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/log/records.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct LoggerHookParams : HookParams {
  int64_t interval = 10;
  bool ignore_last = true;
  int64_t interval_exp_name = 1000;
  bool log_metric_by_epoch = true;
};

/// Writes the lines of the log and passes values to the visualizer. On a terminal a progress bar
/// stands between two lines.
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
      : Hook(params, Priority::kBelowNormal),
        params_(params),
        terminal_(isatty(STDERR_FILENO) == 1) {}

  ~LoggerHook() override { clear_bar(); }

  void attach(const HookTargets& targets) override {
    records_ = targets.records;
    visualizer_ = targets.visualizer;
    lines_.emplace(*targets.log_processor);
  }

  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult&,
                        RunControl&) override {
    const int64_t inner = progress.by_epoch ? progress.step_in_epoch() : progress.iter;
    const int64_t length = progress.by_epoch ? progress.epoch_length : progress.max_iters;
    const bool end = inner == length;
    if (progress.iter % params_.interval_exp_name == 0 || (progress.by_epoch && end)) {
      clear_bar();
      log::info("Exp name: ", run.experiment_name);
    }
    if (inner % params_.interval == 0 ||
        (end && (!params_.ignore_last || length <= params_.interval))) {
      clear_bar();
      const LogRow row = lines_->train_row(*records_, progress, run.device);
      log::info(row.line);
      if (run.is_main()) visualizer_->add_scalars(row.scalars, progress.iter);
    }
    show_bar(run, "train", progress.iter, progress.max_iters);
  }

  void after_val(const RunInfo& run, const Progress& progress, const EvalResult&,
                 RunControl&) override {
    if (!run.is_main()) return;
    visualizer_->add_scalars(result_.scalars,
                             params_.log_metric_by_epoch ? progress.epoch : progress.iter);
    visualizer_->flush();
  }
  void after_train(const RunInfo&, const Progress&) override { clear_bar(); }
  void on_stop(const RunInfo&, const Progress&, RunControl&) override { clear_bar(); }

  void after_eval_iter(const RunInfo& run, const Progress& progress, const EvalInfo& eval,
                       const EvalStep& step) override {
    if (step.done() % params_.interval == 0) {
      clear_bar();
      log::info(lines_->eval_row(*records_, progress, eval, step, run.device).line);
    }
    show_bar(run, eval.name(), step.done(), eval.num_batches);
  }
  void after_eval(const RunInfo&, const Progress& progress, const EvalInfo& eval,
                  const EvalResult& result) override {
    clear_bar();
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
  void show_bar(const RunInfo& run, const char* what, int64_t done, int64_t total) {
    if (!terminal_ || !run.is_main()) return;
    constexpr int64_t kWidth = 30;
    const int64_t filled = total > 0 ? std::min(kWidth, kWidth * done / total) : 0;
    // The cursor returns to the beginning of the line, so that any line of the log replaces it.
    std::fprintf(stderr, "\r\033[2K%s [%s%s] %lld/%lld  eta %s\r", what,
                 std::string(static_cast<size_t>(filled), '=').c_str(),
                 std::string(static_cast<size_t>(kWidth - filled), ' ').c_str(),
                 static_cast<long long>(done), static_cast<long long>(total),
                 duration_text(std::max(0.0, records_->eta_s)).c_str());
    std::fflush(stderr);
    bar_shown_ = true;
  }
  void clear_bar() {
    if (!bar_shown_) return;
    std::fputs("\r\033[2K", stderr);
    std::fflush(stderr);
    bar_shown_ = false;
  }

  Params params_;
  Records* records_ = nullptr;
  Visualizer* visualizer_ = nullptr;
  std::optional<LogProcessor> lines_;
  LogRow result_;  ///< of the last evaluation
  bool terminal_, bar_shown_ = false;
};
SEG_REGISTER(Hook, LoggerHook);

}  // namespace seg
