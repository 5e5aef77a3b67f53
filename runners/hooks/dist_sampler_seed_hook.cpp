#include "runners/hooks/hook.hpp"

namespace seg {

/// Has nothing to do: samplers here are functions of the position in the run, which knows its
/// epoch.
class DistSamplerSeedHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Accepted: samplers know their epoch without being told.")
        .source("MMEngine 0.10, DistSamplerSeedHook")
        .include(HookParams::schema());
  }
  explicit DistSamplerSeedHook(const Params& params) : Hook(params, Priority::kNormal) {}
};
SEG_REGISTER(Hook, DistSamplerSeedHook);

}  // namespace seg
