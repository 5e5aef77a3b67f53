#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/optim/param_scheduler.hpp"

namespace seg {

/// Moves the schedules on after each step, epoch or validation, as each of them counts.
class ParamSchedulerHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Moves the schedules of learning rate and momentum on.")
        .source("MMEngine 0.10, ParamSchedulerHook")
        .include(HookParams::schema());
  }
  explicit ParamSchedulerHook(const Params& params) : Hook(params, Priority::kLow) {}

  void after_iter(RunContext& context) override {
    if (context.phase != Phase::kTrain) return;
    for (auto& scheduler : *context.schedulers) {
      if (!scheduler->needs_metrics() && (!scheduler->by_epoch() || context.end_of_epoch)) {
        scheduler->step();
      }
    }
  }
  void after_val(RunContext& context) override {
    if (context.phase != Phase::kVal || context.interrupted || !context.schedulers) return;
    for (auto& scheduler : *context.schedulers) {
      if (scheduler->needs_metrics()) scheduler->observe(context.metrics);
    }
  }
};
SEG_REGISTER(Hook, ParamSchedulerHook);

}  // namespace seg
