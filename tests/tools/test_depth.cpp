/// Estimation of depth from the command line: training, test, prediction and checks of configs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kDepthRun = R"(
model:
  type: DepthEstimator
  data_preprocessor: {type: SegDataPreProcessor, size: [64, 64], seg_pad_val: 0}
  backbone:
    type: VPD
    class_embed_path: texts.pth
    class_embed_select: true
    pad_shape: 64
    diffusion_cfg:
      params:
        unet_config:
          params: {model_channels: 32, channel_mult: [1, 1, 1, 1], num_heads: 2,
                   attention_resolutions: [8], context_dim: 8}
        first_stage_config:
          params: {ddconfig: {ch: 32, ch_mult: [1, 1, 1, 1], num_res_blocks: 1}}
  decode_head: {type: VPDDepthHead, embed_dim: 4, feature_dim: 32, num_deconv_filters: [4, 4, 4]}
  test_cfg: {mode: slide_flip, crop_size: [64, 64], stride: [64, 32]}
train_dataloader:
  batch_size: 2
  num_workers: 1
  sampler: {type: InfiniteSampler, shuffle: true}
  dataset:
    type: NYUDataset
    data_root: nyu
    data_prefix: {img_path: images/train, depth_map_path: annotations/train}
    pipeline:
    - {type: LoadImageFromFile}
    - {type: LoadDepthAnnotation, depth_rescale_factor: 0.001}
    - {type: RandomDepthMix, prob: 0.5}
    - {type: RandomFlip, prob: 0.5}
    - {type: RandomCrop, crop_size: [64, 64]}
    - {type: PackSegInputs}
val_dataloader: &val
  batch_size: 1
  num_workers: 1
  sampler: {type: DefaultSampler, shuffle: false}
  dataset:
    type: NYUDataset
    data_root: nyu
    test_mode: true
    data_prefix: {img_path: images/test, depth_map_path: annotations/test}
    pipeline:
    - {type: LoadImageFromFile}
    - {type: Resize, scale: [2000, 64], keep_ratio: true}
    - {type: LoadDepthAnnotation, depth_rescale_factor: 0.001}
    - {type: PackSegInputs}
test_dataloader: *val
val_evaluator: &metric {type: DepthMetric, min_depth_eval: 0.001, max_depth_eval: 10.0}
test_evaluator: *metric
optim_wrapper:
  type: OptimWrapper
  optimizer: {type: AdamW, lr: 0.001, weight_decay: 0.1}
  constructor: ForceDefaultOptimWrapperConstructor
  paramwise_cfg:
    bias_decay_mult: 0
    force_default_settings: true
    custom_keys: {backbone.encoder_vq: {lr_mult: 0}, backbone.unet: {lr_mult: 0.01}}
train_cfg: {type: IterBasedTrainLoop, max_iters: 2, val_interval: 2}
val_cfg: {type: ValLoop}
test_cfg: {type: TestLoop}
default_hooks:
  logger: {type: LoggerHook, interval: 1, log_metric_by_epoch: false}
  checkpoint: {type: CheckpointHook, by_epoch: false, interval: 2, save_best: rmse, rule: less}
  visualization: {type: SegVisualizationHook, draw: true, interval: 1, out_dir: drawn}
visualizer: {type: SegLocalVisualizer, vis_backends: [{type: LocalVisBackend}]}
log_processor: {by_epoch: false}
randomness: {seed: 3}
env_cfg: {device: cpu}
)";

class DepthRun : public ::testing::Test {
 protected:
  DepthRun() {
    dir_.write("depth.yaml", kDepthRun);
    write_checkpoint(dir_ / "texts.pth", Value(torch::randn({27, 8})));
    for (const std::string part : {"train", "test"}) {
      for (int i = 0; i < 2; ++i) {
        const std::string name = (i == 0 ? "living_room_000" : "attic_000") + std::to_string(i);
        write_jpeg(dir_ / ("nyu/images/" + part + "/" + name + ".jpg"), tiny_image(72, 96, i));
        cv::Mat depth(72, 96, CV_16UC1);
        for (int y = 0; y < depth.rows; ++y) {
          for (int x = 0; x < depth.cols; ++x) {
            depth.at<uint16_t>(y, x) = static_cast<uint16_t>(x % 8 == 0 ? 0 : 1000 + 50 * y);
          }
        }
        write_png(dir_ / ("nyu/annotations/" + part + "/" + name + ".png"), depth);
      }
    }
  }
  CommandResult run(const std::string& command) const {
    const std::string bin = fs::path(program_path("train")).parent_path().string();
    return run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 PATH=" + bin +
                       ":$PATH " + command + " 2>&1");
  }
  /// Of 16 bits, 72 x 96, in millimetres below 10 m.
  void expect_depth(const std::string& path) const {
    ASSERT_TRUE(fs::exists(dir_ / path)) << path;
    const cv::Mat file = decode_image(read_file_bytes(dir_ / path), path, ImageFlag::kUnchanged);
    EXPECT_EQ(file.type(), CV_16UC1) << path;
    EXPECT_EQ(file.size(), cv::Size(96, 72)) << path;
    double low = 0, high = 0;
    cv::minMaxLoc(file, &low, &high);
    EXPECT_GT(low, 0) << path;
    EXPECT_LE(high, 10000) << path;
  }
  const TempDir dir_;
};

TEST_F(DepthRun, TrainsTestsAndPredicts) {
  const CommandResult trained = run("train depth.yaml --work-dir w");
  ASSERT_EQ(trained.status, 0) << trained.output;
  EXPECT_THAT(trained.output, HasSubstr("decode.loss_silog: "));
  EXPECT_THAT(trained.output, HasSubstr("VPD: class_embeddings is loaded from texts.pth"));
  EXPECT_THAT(trained.output, HasSubstr("custom_keys: 'backbone.encoder_vq' has no effect: its "
                                        "176 tensors are frozen"));
  EXPECT_THAT(trained.output, HasSubstr("rmse: "));
  EXPECT_TRUE(fs::exists(dir_ / "w/best_rmse_iter_2.pth")) << trained.output;
  // The image, its depth and the estimate.
  const cv::Mat drawn = read_image(dir_ / "drawn/attic_0001.png", ImageFlag::kColor);
  EXPECT_GT(drawn.cols, 3 * 96);
  EXPECT_EQ(drawn.rows, 72);

  const CommandResult tested = run("env test depth.yaml w/iter_2.pth --work-dir t --out out");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr("rmse"));
  expect_depth("out/living_room_0000.png");

  const CommandResult predicted = run("predict depth.yaml w/iter_2.pth nyu/images/test --out p");
  ASSERT_EQ(predicted.status, 0) << predicted.output;
  expect_depth("p/attic_0001_depth.png");
  const cv::Mat shown = read_image(dir_ / "p/attic_0001.png", ImageFlag::kColor);
  EXPECT_GT(shown.cols, 2 * 96);
  EXPECT_FALSE(fs::exists(dir_ / "p/classes.png"));
  EXPECT_FALSE(fs::exists(dir_ / "p/attic_0001_ids.png"));
}

TEST_F(DepthRun, TwoProcessesTrainAndMeasureAsOne) {
  // Not the same losses: the variance that SiLogLoss takes is that of each process's images, as
  // in Python.
  const CommandResult trained =
      run("train depth.yaml --work-dir w --nproc 2 --cfg-options train_dataloader.batch_size=1 "
          "find_unused_parameters=true");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const CommandResult alone = run("env test depth.yaml w/iter_2.pth --work-dir a");
  const CommandResult joined = run("env test depth.yaml w/iter_2.pth --work-dir b --nproc 2");
  ASSERT_EQ(joined.status, 0) << joined.output;
  const auto rmse = [](const std::string& output) {
    const size_t at = output.rfind("rmse: ");
    return at == std::string::npos ? "none" : output.substr(at, output.find(' ', at + 6) - at);
  };
  EXPECT_EQ(rmse(joined.output), rmse(alone.output));
  EXPECT_NE(rmse(alone.output), "none");
}

TEST_F(DepthRun, WritesEstimatesOfAMetric) {
  ASSERT_EQ(run("train depth.yaml --work-dir w --cfg-options train_cfg.max_iters=1").status, 0);
  const CommandResult tested =
      run("env test depth.yaml w/iter_1.pth --work-dir t --cfg-options "
          "test_evaluator.output_dir=o test_evaluator.format_only=true");
  ASSERT_EQ(tested.status, 0) << tested.output;
  expect_depth("o/living_room_0000.png");
  EXPECT_THAT(tested.output, Not(::testing::ContainsRegex("rmse: [0-9]")));
}

/// The configs in the wheel of mmsegmentation, unchanged. Their models take 4 GB.
TEST(PublishedDepthConfigs, PassTheCheck) {
  const char* folder = std::getenv("SEGCORE_MMSEG_CONFIGS");
  if (!folder) GTEST_SKIP() << "SEGCORE_MMSEG_CONFIGS names no folder of mmsegmentation's configs";
  for (const std::string name :
       {"vpd_sd_4xb8-25k_nyu-480x480.py", "vpd_sd_4xb8-25k_nyu-512x512.py"}) {
    const CommandResult checked =
        run_command(program_path("print_config") + " " + folder + "/vpd/" + name + " --check 2>&1");
    EXPECT_EQ(checked.status, 0) << checked.output;
  }
}

}  // namespace
}  // namespace seg::test
