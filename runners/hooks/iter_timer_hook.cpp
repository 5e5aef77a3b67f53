#include <chrono>

#include "runners/hooks/hook.hpp"
#include "runners/log/records.hpp"

namespace seg {

/// Records `data_time`, the seconds that a step waited for its batch, and `time`, those of the
/// whole step; estimates the time left.
class IterTimerHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records how long steps take and how long they wait for data.")
        .source("MMEngine 0.10, IterTimerHook")
        .include(HookParams::schema());
  }
  explicit IterTimerHook(const Params& params) : Hook(params, Priority::kNormal) {}

  void attach(const HookTargets& targets) override { records_ = targets.records; }

  void before_train(const RunInfo&, const Progress& progress) override {
    first_iter_ = progress.iter;
    last_ = Clock::now();
  }
  void before_train_iter(const RunInfo&, const Progress&) override {
    records_->train.record("data_time", since_last());
  }
  void after_train_iter(const RunInfo&, const Progress& progress, const StepResult&,
                        RunControl&) override {
    train_total_ += record_time(records_->train);
    set_eta(train_total_, progress.iter - first_iter_, progress.max_iters - progress.iter);
  }

  void before_eval(const RunInfo&, const EvalInfo&) override {
    eval_total_ = 0;
    last_ = Clock::now();
  }
  void before_eval_iter(const RunInfo&, const EvalInfo&) override {
    records_->eval.record("data_time", since_last());
  }
  void after_eval_iter(const RunInfo&, const Progress&, const EvalInfo& eval,
                       const EvalStep& step) override {
    eval_total_ += record_time(records_->eval);
    set_eta(eval_total_, step.done(), eval.num_batches - step.done());
  }
  void after_eval(const RunInfo&, const Progress&, const EvalInfo&, const EvalResult&) override {
    last_ = Clock::now();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double since_last() const { return std::chrono::duration<double>(Clock::now() - last_).count(); }
  double record_time(ScalarHistory& history) {
    const double time = since_last();
    last_ = Clock::now();
    history.record("time", time);
    return time;
  }
  void set_eta(double total_s, int64_t done, int64_t left) {
    records_->eta_s = total_s / static_cast<double>(done) * static_cast<double>(left);
  }

  Records* records_ = nullptr;
  Clock::time_point last_ = Clock::now();
  double train_total_ = 0, eval_total_ = 0;  ///< seconds
  int64_t first_iter_ = 0;
};
SEG_REGISTER(Hook, IterTimerHook);

}  // namespace seg
