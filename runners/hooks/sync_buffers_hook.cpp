#include <torch/nn/module.h>

#include "runners/hooks/hook.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Averages the running statistics of normalisations over the processes before each validation.
class SyncBuffersHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Averages running statistics over the processes before validations.")
        .source("MMEngine 0.10, SyncBuffersHook")
        .include(HookParams::schema());
  }
  explicit SyncBuffersHook(const Params& params) : Hook(params, Priority::kNormal) {}

  void attach(const HookTargets& targets) override { model_ = targets.model; }

  void before_val(const RunInfo& run, const Progress&) override {
    if (run.communicator->size() == 1) return;
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& buffer : model_->buffers()) {
      if (!buffer.is_floating_point()) continue;
      torch::Tensor sum = buffer.clone();
      run.communicator->all_reduce_sum_(sum);
      buffer.copy_(sum / run.communicator->size());
    }
  }

 private:
  Segmentor* model_ = nullptr;
};
SEG_REGISTER(Hook, SyncBuffersHook);

}  // namespace seg
