#include "runners/hooks/hook.hpp"

namespace seg {

/// Does nothing: samplers here are functions of the position in the run, which includes the epoch.
class DistSamplerSeedHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Accepted, without effect: samplers know their epoch.")
        .source("MMEngine 0.10, DistSamplerSeedHook")
        .include(HookParams::schema());
  }
  explicit DistSamplerSeedHook(const Params& params) : Hook(params, Priority::kNormal) {}
};
SEG_REGISTER(Hook, DistSamplerSeedHook);

}  // namespace seg
