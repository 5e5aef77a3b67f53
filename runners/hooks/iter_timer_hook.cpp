#include <chrono>

#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"

namespace seg {

/// Records `data_time`, which a step waited for its batch, and `time`, which it took in all; and
/// estimates the time left.
class IterTimerHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records how long steps take and wait for data.")
        .source("MMEngine 0.10, IterTimerHook")
        .include(HookParams::schema());
  }
  explicit IterTimerHook(const Params& params) : Hook(params, Priority::kNormal) {}

  void before_train(RunContext& context) override {
    first_iter_ = context.iter;
    last_ = Clock::now();
  }
  void before_val(RunContext&) override {
    eval_total_ = 0;
    last_ = Clock::now();
  }
  void before_iter(RunContext& context) override {
    context.log().record("data_time", since_last());
  }
  void after_iter(RunContext& context) override {
    const double time = since_last();
    last_ = Clock::now();
    context.log().record("time", time);
    if (context.phase == Phase::kTrain) {
      train_total_ += time;
      const auto done = static_cast<double>(context.iter - first_iter_);
      context.eta_s = train_total_ / done * static_cast<double>(context.max_iters - context.iter);
    } else {
      eval_total_ += time;
      const int64_t done = context.batch_index + 1;
      context.eta_s =
          eval_total_ / static_cast<double>(done) * static_cast<double>(context.batch_count - done);
    }
  }
  void after_val(RunContext&) override { last_ = Clock::now(); }

 private:
  using Clock = std::chrono::steady_clock;
  double since_last() const { return std::chrono::duration<double>(Clock::now() - last_).count(); }

  Clock::time_point last_ = Clock::now();
  double train_total_ = 0, eval_total_ = 0;
  int64_t first_iter_ = 0;
};
SEG_REGISTER(Hook, IterTimerHook);

}  // namespace seg
