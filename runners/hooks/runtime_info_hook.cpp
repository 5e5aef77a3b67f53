#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/optim/optim_wrapper.hpp"

namespace seg {

/// Records what a step used and gave: learning rates, gradient norm, losses; metrics of a
/// validation.
class RuntimeInfoHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records learning rates, losses and metrics for the log.")
        .source("MMEngine 0.10, RuntimeInfoHook")
        .include(HookParams::schema());
  }
  explicit RuntimeInfoHook(const Params& params) : Hook(params, Priority::kVeryHigh) {}

  void before_train(RunContext& context) override {
    put_progress(context);
    context.runtime_info.set("max_epochs", context.max_epochs);
    context.runtime_info.set("max_iters", context.max_iters);
  }
  void before_iter(RunContext& context) override {
    if (context.phase != Phase::kTrain) return;
    for (const auto& [name, rate] : context.optimizer->learning_rates()) {
      context.train_log.record(name, rate);
    }
  }
  void after_iter(RunContext& context) override {
    if (context.phase != Phase::kTrain) return;
    put_progress(context);
    if (context.grad_norm.defined()) context.train_log.record("grad_norm", context.grad_norm);
    for (const auto& [name, value] : context.losses) context.train_log.record(name, value);
  }
  void after_val(RunContext& context) override {
    for (const auto& [name, value] : context.metrics) context.log().record(name, value);
  }

 private:
  static void put_progress(RunContext& context) {
    context.runtime_info.set("epoch", context.epoch);
    context.runtime_info.set("iter", context.iter);
  }
};
SEG_REGISTER(Hook, RuntimeInfoHook);

}  // namespace seg
