#include "runners/hooks/hook.hpp"
#include "runners/log/records.hpp"
#include "runners/optim/optim_wrapper.hpp"

namespace seg {

/// Records learning rates, gradient norm and losses of each step, and the metrics of evaluations.
class RuntimeInfoHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records learning rates, losses and metrics for the log.")
        .source("MMEngine 0.10, RuntimeInfoHook")
        .include(HookParams::schema());
  }
  explicit RuntimeInfoHook(const Params& params) : Hook(params, Priority::kVeryHigh) {}

  void attach(const HookTargets& targets) override {
    records_ = targets.records;
    optimizer_ = targets.optimizer;
  }

  void before_train(const RunInfo&, const Progress& progress) override {
    record_progress(progress);
    records_->facts.set("max_epochs", progress.max_epochs);
    records_->facts.set("max_iters", progress.max_iters);
  }
  void before_train_iter(const RunInfo&, const Progress&) override {
    for (const auto& [name, rate] : optimizer_->learning_rates()) {
      records_->train.record(name, rate);
    }
  }
  void after_train_iter(const RunInfo&, const Progress& progress, const StepResult& step,
                        RunControl&) override {
    record_progress(progress);
    if (step.grad_norm.defined()) records_->train.record("grad_norm", step.grad_norm);
    for (const auto& [name, value] : step.losses) records_->train.record(name, value);
  }
  void after_eval(const RunInfo&, const Progress&, const EvalInfo&,
                  const EvalResult& result) override {
    for (const auto& [name, value] : result.metrics) records_->eval.record(name, value);
  }

 private:
  void record_progress(const Progress& progress) {
    records_->facts.set("epoch", progress.epoch);
    records_->facts.set("iter", progress.iter);
  }

  Records* records_ = nullptr;
  const OptimWrapper* optimizer_ = nullptr;
};
SEG_REGISTER(Hook, RuntimeInfoHook);

}  // namespace seg
