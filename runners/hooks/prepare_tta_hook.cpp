#include "runners/hooks/hook.hpp"

namespace seg {

struct TtaCfg {
  static Schema<TtaCfg> schema() {
    return Schema<TtaCfg>("How augmented predictions are joined.")
        .accepted("type", "there is one, SegTTAModel")
        .accepted("module", "the model of this config")
        .accepted("data_preprocessor", "that of the model");
  }
};

struct PrepareTTAHookParams : HookParams {
  TtaCfg tta_cfg;
};

/// Asks the test to join the augmentations that the pipeline of the test data makes.
class PrepareTTAHook final : public Hook {
 public:
  using Params = PrepareTTAHookParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Averages, in a test, the predictions for the augmentations of the test data's own "
               "TestTimeAug; --tta does so for those of tta_pipeline.")
        .source("MMEngine 0.10, PrepareTTAHook")
        .include(HookParams::schema())
        .required("tta_cfg", &Params::tta_cfg, "how augmented predictions are joined");
  }
  explicit PrepareTTAHook(const Params& params) : Hook(params, Priority::kNormal) {}
  bool joins_augmentations() const override { return true; }
};
SEG_REGISTER(Hook, PrepareTTAHook);

}  // namespace seg
