/// The programs with a configuration of MMSegmentation 0.x.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "segcore/io/checkpoint.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kOldRun = R"(model:
  type: EncoderDecoder
  backbone:
    type: MixVisionTransformer
    embed_dims: 8
    num_stages: 2
    num_layers: [1, 1]
    num_heads: [1, 2]
    patch_sizes: [7, 3]
    strides: [4, 2]
    sr_ratios: [2, 1]
    out_indices: [0, 1]
  decode_head:
    type: SegformerHead
    in_channels: [8, 16]
    in_index: [0, 1]
    channels: 8
    num_classes: 3
    norm_cfg: {type: BN}
    loss_decode: {type: CrossEntropyLoss, loss_weight: 1.0}
  train_cfg: {}
  test_cfg: {mode: whole}
img_norm_cfg: &norm {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], to_rgb: true}
data:
  samples_per_gpu: 2
  workers_per_gpu: 1
  train: &train
    type: CustomDataset
    img_dir: img
    ann_dir: ann
    img_suffix: .png
    classes: [ground, red, green]
    palette: [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
    pipeline:
    - {type: LoadImageFromFile}
    - {type: LoadAnnotations}
    - {type: Resize, img_scale: [40, 40], ratio_range: [0.8, 1.5]}
    - {type: RandomCrop, crop_size: [32, 32]}
    - {type: RandomFlip, prob: 0.5}
    - {type: Normalize, <<: *norm}
    - {type: Pad, size: [32, 32], pad_val: 0, seg_pad_val: 255}
    - {type: DefaultFormatBundle}
    - {type: Collect, keys: [img, gt_semantic_seg]}
  val: &val
    <<: *train
    pipeline:
    - {type: LoadImageFromFile}
    - type: MultiScaleFlipAug
      img_scale: [40, 40]
      img_ratios: [0.5, 1.0]
      flip: true
      transforms:
      - {type: Resize, keep_ratio: true}
      - {type: RandomFlip}
      - {type: Normalize, <<: *norm}
      - {type: ImageToTensor, keys: [img]}
      - {type: Collect, keys: [img]}
  test: *val
optimizer: {type: SGD, lr: 0.01, momentum: 0.9}
optimizer_config: {}
lr_config: {policy: poly, power: 0.9, min_lr: 1.0e-4, by_epoch: false}
runner: {type: IterBasedRunner, max_iters: 4}
checkpoint_config: {by_epoch: false, interval: 4}
evaluation: {interval: 4, metric: mIoU}
log_config: {interval: 1, hooks: [{type: TextLoggerHook}]}
seed: 3
deterministic: true
device: cpu
)";

class OldConfigs : public ::testing::Test {
 protected:
  OldConfigs() {
    dir_.write("old.yaml", kOldRun);
    write_tiny_dataset(dir_, 4, 3, 40, 40);
  }
  CommandResult run(const std::string& line) const { return run_program_line(dir_, line); }
  Value weights(const std::string& file) const {
    return read_checkpoint(dir_ / file).at("state_dict");
  }
  TempDir dir_;
};

TEST_F(OldConfigs, TrainAndTestLikeTheirTranslation) {
  const CommandResult training = run("train old.yaml --work-dir a");
  ASSERT_EQ(training.status, 0) << training.output;
  EXPECT_THAT(training.output,
              HasSubstr("WARNING - old.yaml:25:20: this is a configuration of MMSegmentation 0.x "
                        "(it has data.samples_per_gpu, data.train, data.val, ...), which is "
                        "translated; 'tools/print_config old.yaml' prints the result"));
  ASSERT_EQ(run_shell_line(dir_, "(@print_config old.yaml > new.yaml 2> said)").status, 0);
  const CommandResult again = run("train new.yaml --work-dir b");
  ASSERT_EQ(again.status, 0) << again.output;
  EXPECT_THAT(again.output, Not(HasSubstr("0.x")));
  EXPECT_EQ(first_difference(weights("a/iter_4.pth"), weights("b/iter_4.pth")), "");

  const CommandResult test = run("test old.yaml a/iter_4.pth --tta --work-dir t");
  EXPECT_EQ(test.status, 0) << test.output;
  EXPECT_THAT(test.output, HasSubstr("mIoU"));
}

TEST_F(OldConfigs, MayHaveDataSetClassesOfTheirTime) {
  std::string yaml = kOldRun;
  const auto replace = [&yaml](const std::string& from, const std::string& to) {
    yaml.replace(yaml.find(from), from.size(), to);
  };
  replace("type: CustomDataset", "type: Stripes");
  replace("    img_suffix: .png\n    classes: [ground, red, green]\n", "");
  replace("    palette: [[0, 0, 0], [255, 0, 0], [0, 255, 0]]\n", "");
  dir_.write("old.yaml", yaml);
  dir_.write("stripes.py",
             "from mmseg.datasets.builder import DATASETS\n"
             "from mmseg.datasets.custom import CustomDataset\n\n\n"
             "@DATASETS.register_module()\n"
             "class Stripes(CustomDataset):\n"
             "    CLASSES = ('ground', 'red', 'green')\n"
             "    PALETTE = [[0, 0, 0], [255, 0, 0], [0, 255, 0]]\n\n"
             "    def __init__(self, split=None, **kwargs):\n"
             "        super().__init__(img_suffix='.png', split=split, **kwargs)\n");
  const CommandResult training = run("train old.yaml --work-dir a");
  EXPECT_EQ(training.status, 0) << training.output;
  EXPECT_THAT(training.output, HasSubstr("red"));
}

TEST_F(OldConfigs, ArePrintedWithCommentsAndCheckedByAllPrograms) {
  ASSERT_EQ(run_shell_line(dir_, "(@print_config old.yaml > new.yaml 2> said)").status, 0);
  EXPECT_THAT(dir_.read("new.yaml"),
              AllOf(StartsWith("default_scope: mmseg\nmodel:\n"),
                    HasSubstr("    - type: Resize  # 0.x averages 2 scales and their mirror images "
                              "in every validation and test; here only tests with --tta do, by "
                              "tta_pipeline\n"),
                    Not(HasSubstr("img_norm_cfg"))));
  EXPECT_THAT(dir_.read("said"), Not(HasSubstr("nothing uses this key")));
  const CommandResult check = run("print_config old.yaml --check");
  EXPECT_EQ(check.status, 0) << check.output;
  EXPECT_THAT(run("print_config old.yaml --explain train_cfg.max_iters").output,
              HasSubstr("train_cfg.max_iters\n  old.yaml:62:44: 4\n"));
  const CommandResult seen = run("inspect old.yaml --depth 1");
  EXPECT_EQ(seen.status, 0) << seen.output;
  const CommandResult shorter =
      run("train old.yaml --work-dir c --cfg-options runner.max_iters=2 data.samples_per_gpu=1 "
          "default_hooks.logger.interval=2");
  EXPECT_EQ(shorter.status, 0) << shorter.output;
  EXPECT_THAT(dir_.read("c/old.yaml"), HasSubstr("max_iters: 2"));
}

}  // namespace
}  // namespace seg::test
