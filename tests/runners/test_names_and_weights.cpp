/// Checkpoints whose names carry values, and weights of classes that are counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runners/checkpoint/find.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/data/class_pixels.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::vector<std::string> checkpoints_of(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".pth")) out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// Trains the tiny run with more options. \return what it logged.
std::string train_tiny(const TempDir& dir, const std::string& more) {
  dir.write("tiny.yaml", tiny_run_yaml());
  const std::string path =
      dir.write("a.yaml", "_base_: tiny.yaml\nwork_dir: " + (dir / "run") + "\n" + more);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  run_training(load_run_config(path));
  return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
}

TEST(CheckpointNames, CarryLossesAndMeasures) {
  const TempDir dir;
  train_tiny(dir,
             "train_cfg: {max_iters: 6, val_interval: 3}\n"
             "default_hooks: {checkpoint: {interval: 2, max_keep_ckpts: 2, name_scalars: [loss, "
             "mIoU]}}\n");
  const auto names = checkpoints_of(dir / "run");
  ASSERT_EQ(names.size(), 3u);
  EXPECT_THAT(names[0], MatchesRegex("best_mIoU_iter_[36]-loss_[0-9.]+-mIoU_[0-9.]+\\.pth"));
  EXPECT_THAT(names[1], MatchesRegex("iter_4-loss_[0-9]\\.[0-9]{4}-mIoU_[0-9]+\\.[0-9]{2}\\.pth"));
  EXPECT_THAT(names[2], MatchesRegex("iter_6-loss_[0-9]\\.[0-9]{4}-mIoU_[0-9]+\\.[0-9]{2}\\.pth"));
  EXPECT_EQ(newest_checkpoint_name(dir / "run"), names[2]);
  const auto found = find_checkpoint(dir / "run");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, dir / ("run/" + names[2]));
  // Without the file that names the last one, too.
  std::filesystem::remove(dir / "run/last_checkpoint");
  EXPECT_EQ(find_checkpoint(dir / "run")->path, dir / ("run/" + names[2]));
}

// --- Weights of classes -------------------------------------------------------------------------

TEST(ClassPixels, CountImagesInWhichAClassOccurs) {
  const TempDir dir;
  cv::Mat first(1, 4, CV_8U, cv::Scalar(0)), second(1, 6, CV_8U, cv::Scalar(1));
  first.at<uint8_t>(0, 3) = 255;
  second.at<uint8_t>(0, 0) = 0;
  write_png(dir / "img/a.png", tiny_image(1, 4, 0));
  write_png(dir / "img/b.png", tiny_image(1, 6, 0));
  write_png(dir / "ann/a.png", first);
  write_png(dir / "ann/b.png", second);
  const auto data =
      Spec<Dataset>::of("{type: BaseSegDataset, data_root: " + dir.path().string() +
                        ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, "
                        "metainfo: {classes: [a, b, c]}}")
          .build();
  const auto all = count_class_pixels(*data, 3);
  EXPECT_THAT(all.pixels, ElementsAre(4, 5, 0));
  EXPECT_THAT(all.around, ElementsAre(9, 6, 0));
  // A process counts its share.
  EXPECT_THAT(count_class_pixels(*data, 3, 1, 2).pixels, ElementsAre(1, 5, 0));

  ClassWeight median(std::string("median_frequency")), inverse(std::string("inverse"));
  EXPECT_TRUE(median.needs_counts());
  EXPECT_FALSE(median);
  median.set_counts(all.pixels, all.around);
  inverse.set_counts(all.pixels, all.around);
  // Frequencies 4/9 and 5/6, whose median is their mean, 23/36.
  EXPECT_THAT(median.values(),
              ElementsAre(DoubleNear(23.0 / 16, 1e-12), DoubleNear(23.0 / 30, 1e-12), 0));
  EXPECT_THAT(inverse.values(),
              ElementsAre(DoubleNear(9.0 / 8, 1e-12), DoubleNear(9.0 / 10, 1e-12), 0));
  EXPECT_FALSE(median.needs_counts());
  EXPECT_THROW(ClassWeight(std::string("inverse")).set_counts({0, 0}, {0, 0}), DataError);
}

TEST(ClassWeights, AreCountedBeforeTraining) {
  const TempDir dir;
  const auto log =
      train_tiny(dir,
                 "train_cfg: {max_iters: 2, val_interval: 2}\n"
                 "model: {decode_head: {loss_decode: {class_weight: median_frequency}}}\n");
  EXPECT_THAT(log, HasSubstr("counting the pixels of each class in 10 annotations"));
  EXPECT_THAT(log, HasSubstr("class_weight (median_frequency): "));
}

}  // namespace
}  // namespace seg::test
