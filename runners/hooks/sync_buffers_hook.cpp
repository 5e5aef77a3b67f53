#include <torch/nn/module.h>

#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
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

  void before_val(RunContext& context) override {
    if (context.phase != Phase::kVal || context.communicator->size() == 1) return;
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& buffer : context.model->buffers()) {
      if (!buffer.is_floating_point()) continue;
      torch::Tensor sum = buffer.clone();
      context.communicator->all_reduce_sum_(sum);
      buffer.copy_(sum / context.communicator->size());
    }
  }
};
SEG_REGISTER(Hook, SyncBuffersHook);

}  // namespace seg
