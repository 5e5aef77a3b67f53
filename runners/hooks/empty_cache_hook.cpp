#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/start/device.hpp"

namespace seg {

struct EmptyCacheHookParams : HookParams {
  bool before_epoch = false;
  bool after_epoch = true;
  bool after_iter = false;
};

/// Gives unused GPU memory back to the driver.
class EmptyCacheHook final : public Hook {
 public:
  using Params = EmptyCacheHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Gives unused GPU memory back.")
        .source("MMEngine 0.10, EmptyCacheHook")
        .include(HookParams::schema())
        .optional("before_epoch", &Params::before_epoch, "before training and validations")
        .optional("after_epoch", &Params::after_epoch, "after epochs and validations")
        .optional("after_iter", &Params::after_iter, "after each step");
  }
  explicit EmptyCacheHook(const Params& params)
      : Hook(params, Priority::kNormal), params_(params) {}

  void before_train(RunContext& context) override { empty(context, params_.before_epoch); }
  void before_val(RunContext& context) override { empty(context, params_.before_epoch); }
  void after_iter(RunContext& context) override {
    empty(context, params_.after_iter || (params_.after_epoch && context.end_of_epoch &&
                                          context.phase == Phase::kTrain));
  }
  void after_val(RunContext& context) override { empty(context, params_.after_epoch); }

 private:
  static void empty(const RunContext& context, bool wanted) {
    if (wanted) empty_device_cache(context.device);
  }
  Params params_;
};
SEG_REGISTER(Hook, EmptyCacheHook);

}  // namespace seg
