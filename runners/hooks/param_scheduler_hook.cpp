#include "runners/hooks/hook.hpp"
#include "runners/optim/param_scheduler.hpp"

namespace seg {

/// Advances each schedule after every step, epoch or validation, whichever it counts.
class ParamSchedulerHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Advances the schedules of learning rate and momentum.")
        .source("MMEngine 0.10, ParamSchedulerHook")
        .include(HookParams::schema());
  }
  explicit ParamSchedulerHook(const Params& params) : Hook(params, Priority::kLow) {}

  void attach(const HookTargets& targets) override { schedulers_ = targets.schedulers; }

  void after_train_iter(const RunInfo&, const Progress& progress, const StepResult&,
                        RunControl&) override {
    for (auto& scheduler : *schedulers_) {
      if (!scheduler->by_epoch() || progress.ends_epoch()) scheduler->step();
    }
  }
  void after_val(const RunInfo&, const Progress&, const EvalResult& result, RunControl&) override {
    for (auto& scheduler : *schedulers_) {
      if (scheduler->needs_metrics()) scheduler->observe(result.metrics);
    }
  }

 private:
  std::vector<std::unique_ptr<ParamScheduler>>* schedulers_ = nullptr;
};
SEG_REGISTER(Hook, ParamSchedulerHook);

}  // namespace seg
