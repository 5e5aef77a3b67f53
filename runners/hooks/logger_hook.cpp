#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "registry/log.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct LoggerHookParams : HookParams {
  int64_t interval = 10;
  bool ignore_last = true;
  int64_t interval_exp_name = 1000;
  bool log_metric_by_epoch = true;
};

/// Writes the lines of the log and hands values to the visualizer. On a terminal it shows how far
/// the loop is between two lines.
class LoggerHook final : public Hook {
 public:
  using Params = LoggerHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Writes losses, rates, times and metrics into the log.")
        .source("MMEngine 0.10, LoggerHook")
        .include(HookParams::schema())
        .optional("interval", &Params::interval, "steps between two lines", at_least(1))
        .optional("ignore_last", &Params::ignore_last,
                  "no line after the last steps of an epoch that are fewer than the interval")
        .optional("interval_exp_name", &Params::interval_exp_name,
                  "steps between two lines with the name of the run", at_least(1))
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

  void after_iter(RunContext& context) override {
    if (context.phase == Phase::kTrain) {
      after_train_iter(context);
    } else if ((context.batch_index + 1) % params_.interval == 0) {
      clear_bar();
      log::info(log_row_of_iter(context).line);
    }
    show_bar(context);
  }

  void after_val(RunContext& context) override {
    clear_bar();
    if (context.interrupted) return;
    if (!context.metric_table.empty()) {
      log::info("per class results:");
      log::info("\n", context.metric_table);
    }
    const LogRow row = log_row_of_pass(context);
    log::info(row.line);
    if (context.phase == Phase::kTest) {
      write_test_result(context, row.scalars);
    } else if (context.is_main()) {
      context.visualizer->add_scalars(row.scalars,
                                      params_.log_metric_by_epoch ? context.epoch : context.iter);
      context.visualizer->flush();
    }
  }

  void after_train(RunContext&) override { clear_bar(); }
  void on_stop(RunContext&) override { clear_bar(); }

 private:
  void after_train_iter(RunContext& context) {
    const int64_t inner = context.by_epoch ? context.batch_index + 1 : context.iter;
    const bool end = context.by_epoch ? context.end_of_epoch : context.iter == context.max_iters;
    const int64_t length = context.by_epoch ? context.epoch_length : context.max_iters;
    if (context.iter % params_.interval_exp_name == 0 || (context.by_epoch && end)) {
      clear_bar();
      log::info("Exp name: ", context.experiment_name);
    }
    const bool wanted = inner % params_.interval == 0 ||
                        (end && (!params_.ignore_last || length <= params_.interval));
    if (!wanted) return;
    clear_bar();
    const LogRow row = log_row_of_iter(context);
    log::info(row.line);
    if (context.is_main()) context.visualizer->add_scalars(row.scalars, context.iter);
  }

  static void write_test_result(const RunContext& context, const Scalars& scalars) {
    if (!context.is_main()) return;
    nlohmann::ordered_json object = nlohmann::ordered_json::object();
    // JSON has no NaN: an absent class is null, as nlohmann writes it.
    for (const auto& [name, value] : scalars) object[name] = value;
    write_file_atomically(context.log_dir + "/" + context.timestamp + ".json",
                          object.dump() + "\n");
  }

  void show_bar(const RunContext& context) {
    if (!terminal_ || !context.is_main()) return;
    const bool training = context.phase == Phase::kTrain;
    const int64_t done = training ? context.iter : context.batch_index + 1;
    const int64_t total = training ? context.max_iters : context.batch_count;
    constexpr int64_t kWidth = 30;
    const int64_t filled = total > 0 ? std::min(kWidth, kWidth * done / total) : 0;
    // The cursor goes back to the beginning of the line, so that any line of the log replaces it.
    std::fprintf(stderr, "\r\033[2K%s [%s%s] %lld/%lld  eta %s\r", phase_name(context.phase),
                 std::string(static_cast<size_t>(filled), '=').c_str(),
                 std::string(static_cast<size_t>(kWidth - filled), ' ').c_str(),
                 static_cast<long long>(done), static_cast<long long>(total),
                 duration_text(std::max(0.0, context.eta_s)).c_str());
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
  bool terminal_, bar_shown_ = false;
};
SEG_REGISTER(Hook, LoggerHook);

}  // namespace seg
