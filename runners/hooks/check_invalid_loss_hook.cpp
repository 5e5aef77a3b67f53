#include <cmath>

#include "registry/error.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/log/records.hpp"

namespace seg {

struct CheckInvalidLossHookParams : HookParams {
  int64_t interval = 50;
};

/// Ends a run whose loss is not finite, before it is saved.
class CheckInvalidLossHook final : public Hook {
 public:
  using Params = CheckInvalidLossHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Stops a run whose loss is not finite (exit code 21).")
        .source("MMDetection 3.3, CheckInvalidLossHook")
        .include(HookParams::schema())
        .optional("interval", &Params::interval,
                  "steps between two checks, each of which waits for a GPU", at_least(1));
  }
  explicit CheckInvalidLossHook(const Params& params)
      : Hook(params, Priority::kVeryHigh), interval_(params.interval) {}

  void attach(const HookTargets& targets) override { records_ = targets.records; }
  bool checks_loss() const override { return true; }

  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult& step,
                        RunControl&) override {
    // Reading the loss waits for a GPU: every tenth step there, and before anything is saved.
    const int64_t interval = run.device.is_cpu() ? interval_ : std::max<int64_t>(interval_, 10);
    if (progress.iter % interval != 0 && progress.iter != progress.max_iters &&
        !progress.validation_due) {
      return;
    }
    if (std::isfinite(step.losses.front().second.item<double>())) return;
    std::vector<std::string> values;
    for (const auto& [name, value] : step.losses) {
      values.push_back(text(name, ' ', value.item<double>()));
    }
    const Value* last = records_->facts.find("last_ckpt");
    throw RunEnded(21, text("the loss is not finite at iteration ", progress.iter, ": ",
                            join(values, ", "), ". ",
                            last ? text("The last checkpoint is ", last->as_string(), ". ")
                                 : std::string("No checkpoint was written yet. "),
                            "A lower learning rate, a longer warm-up or clip_grad often helps; so "
                            "does full precision"));
  }

 private:
  int64_t interval_;
  const Records* records_ = nullptr;
};
SEG_REGISTER(Hook, CheckInvalidLossHook);

}  // namespace seg
