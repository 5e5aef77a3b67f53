/// Training of a model that follows the progress and has layers without a backbone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/hooks/hook.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

/// The share of masked queries of the first block in each step.
std::vector<double> seen_shares;

class SharesHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() { return HookParams::schema(); }
  explicit SharesHook(const Params& params) : Hook(params, Priority::kNormal) {}
  void attach(const HookTargets& targets) override { model_ = targets.model; }
  void before_train_iter(const RunInfo&, const Progress&) override {
    seen_shares.push_back(model_->named_buffers()["attn_mask_probs"][0].item<double>());
  }

 private:
  Segmentor* model_ = nullptr;
};
SEG_REGISTER(Hook, SharesHook);

TEST(TrainingRun, TellsTheModelItsProgress) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  const std::string path = dir.write(
      "a.yaml",
      "_base_: tiny.yaml\n"
      "model:\n"
      "  _delete_: true\n"
      "  type: EoMT\n"
      "  hidden_size: 24\n"
      "  num_hidden_layers: 3\n"
      "  num_attention_heads: 3\n"
      "  image_size: 32\n"
      "  patch_size: 8\n"
      "  num_blocks: 2\n"
      "  num_queries: 5\n"
      "  num_upscale_blocks: 1\n"
      "  num_labels: 5\n"
      "  train_num_points: 16\n"
      "  attn_mask_annealing_enabled: true\n"
      "  poly_power: 1.0\n"
      "  data_preprocessor: {type: SegDataPreProcessor, size: [32, 32], seg_pad_val: 255}\n"
      "optim_wrapper:\n"
      "  constructor: LearningRateDecayOptimizerConstructor\n"
      "  paramwise_cfg: {_delete_: true, num_layers: 3, decay_rate: 0.5, decay_type: layer_wise}\n"
      "train_cfg: {max_iters: 8, val_interval: 100}\n"
      "custom_hooks: [{type: SharesHook}]\n"
      "randomness: {deterministic: false}\n"
      "work_dir: " +
          (dir / "run") + "\n");
  seen_shares.clear();
  run_training(load_run_config(path));
  // Four equal phases: the first block is annealed in the second.
  EXPECT_THAT(seen_shares, ::testing::ElementsAre(1, 1, 1, 0.5, 0, 0, 0, 0));
}

}  // namespace
}  // namespace seg::test
