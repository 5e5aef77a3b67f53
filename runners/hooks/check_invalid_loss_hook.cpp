#include <cmath>

#include "registry/error.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"

namespace seg {

struct CheckInvalidLossHookParams : HookParams {
  int64_t interval = 50;
};

/// Ends a run whose loss is no longer a finite number, before a checkpoint of it is written.
class CheckInvalidLossHook final : public Hook {
 public:
  using Params = CheckInvalidLossHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Stops a run whose loss is not finite (exit code 21).")
        .source("MMDetection 3.3, CheckInvalidLossHook")
        .include(HookParams::schema())
        .optional("interval", &Params::interval,
                  "steps between two looks, each of which waits for a GPU", at_least(1));
  }
  explicit CheckInvalidLossHook(const Params& params)
      : Hook(params, Priority::kVeryHigh), interval_(params.interval) {}

  void after_iter(RunContext& context) override {
    if (context.phase != Phase::kTrain) return;
    // A GPU is waited for every tenth step only, and before anything could be saved.
    const int64_t interval = context.device.is_cpu() ? interval_ : std::max<int64_t>(interval_, 10);
    if (context.iter % interval != 0 && context.iter != context.max_iters &&
        !context.validation_due && !context.interrupted) {
      return;
    }
    if (std::isfinite(context.losses.front().second.item<double>())) return;
    std::vector<std::string> values;
    for (const auto& [name, value] : context.losses) {
      values.push_back(text(name, ' ', value.item<double>()));
    }
    const Value* last = context.runtime_info.find("last_ckpt");
    throw RunEnded(21, text("the loss is not finite at iteration ", context.iter, ": ",
                            join(values, ", "), ". ",
                            last ? text("The last checkpoint is ", last->as_string(), ". ")
                                 : std::string("No checkpoint was written yet. "),
                            "A lower learning rate, a longer warm-up or clip_grad often helps; so "
                            "does full precision"));
  }

 private:
  int64_t interval_;
};
SEG_REGISTER(Hook, CheckInvalidLossHook);

}  // namespace seg
