#include "runners/hooks/hook.hpp"
#include "runners/start/device.hpp"

namespace seg {

struct EmptyCacheHookParams : HookParams {
  bool before_epoch = false;
  bool after_epoch = true;
  bool after_iter = false;
};

/// Returns unused GPU memory to the driver.
class EmptyCacheHook final : public Hook {
 public:
  using Params = EmptyCacheHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Returns unused GPU memory to the driver.")
        .source("MMEngine 0.10, EmptyCacheHook")
        .include(HookParams::schema())
        .optional("before_epoch", &Params::before_epoch, "before training and validations")
        .optional("after_epoch", &Params::after_epoch, "after epochs and validations")
        .optional("after_iter", &Params::after_iter, "after each step");
  }
  explicit EmptyCacheHook(const Params& params)
      : Hook(params, Priority::kNormal), params_(params) {}

  void before_train(const RunInfo& run, const Progress&) override {
    empty(run, params_.before_epoch);
  }
  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult&,
                        RunControl&) override {
    empty(run, params_.after_iter || (params_.after_epoch && progress.ends_epoch()));
  }
  void before_eval(const RunInfo& run, const EvalInfo&) override {
    empty(run, params_.before_epoch);
  }
  void after_eval_iter(const RunInfo& run, const Progress&, const EvalInfo&,
                       const EvalStep&) override {
    empty(run, params_.after_iter);
  }
  void after_eval(const RunInfo& run, const Progress&, const EvalInfo&,
                  const EvalResult&) override {
    empty(run, params_.after_epoch);
  }

 private:
  static void empty(const RunInfo& run, bool wanted) {
    if (wanted) empty_device_cache(run.device);
  }
  Params params_;
};
SEG_REGISTER(Hook, EmptyCacheHook);

}  // namespace seg
