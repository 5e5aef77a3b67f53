/// Georeferenced rasters of ten bands, from training by windows to predictions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <opencv2/core.hpp>

#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/raster_writer.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

constexpr int kBands = 10, kHeight = 64, kWidth = 96;

GeoReference place_of_rasters() {
  GeoReference out;
  out.pixel_scale = {10, 10, 0};
  out.tiepoints = {0, 0, 0, 600000, 5700000, 0};
  out.keys = {1, 1, 0, 1, 3072, 0, 1, 32632};
  return out;
}

/// Water on the right, trees on the left, told apart by the fourth band; the corner has no labels.
void write_scene(const TempDir& dir, const std::string& split) {
  cv::Mat image(kHeight, kWidth, CV_16UC(kBands)), labels(kHeight, kWidth, CV_8UC1);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const bool water = x + y / 4 > kWidth / 2;
      labels.at<uint8_t>(y, x) = static_cast<uint8_t>(y < 8 && x < 8 ? 0 : water ? 80 : 10);
      auto* pixel = image.ptr<uint16_t>(y) + x * kBands;
      for (int b = 0; b < kBands; ++b) {
        pixel[b] = static_cast<uint16_t>(900 + 40 * b + (x * 7 + y * 13) % 50 +
                                         (b == 3 && !water ? 2500 : 0));
      }
    }
  }
  RasterForm form{.block = 32};
  form.georeference = place_of_rasters();
  for (const char* kind : {"img", "ann"}) {
    fs::create_directories(dir / text("data/", kind, "/", split));
  }
  write_raster(dir / ("data/img/" + split + "/scene.tif"), image, form);
  write_raster(dir / ("data/ann/" + split + "/scene.tif"), labels, form);
}

/// The shipped setting of ten bands, in small.
std::string small_setting() {
  const std::string data =
      "num_workers: 1, persistent_workers: false, dataset: {data_root: data, windows: ";
  return "_base_: " + source_path("configs/unet/s5_sentinel2_10bands.yaml") +
         "\nmodel:\n  data_preprocessor: {size: [32, 32]}\n  backbone: {base_channels: 4}\n"
         "  decode_head: {channels: 8}\n  auxiliary_head: {channels: 8}\n"
         "train_dataloader: {batch_size: 2, " +
         data + "{size: [32, 32], stride: [16, 16]}}}\n" + "val_dataloader: &val {" + data +
         "{size: [32, 32]}}}\ntest_dataloader: *val\n" +
         "train_cfg: {max_iters: 6, val_interval: 6}\n"
         "param_scheduler: {0: {end: 6}}\n"
         "default_hooks: {checkpoint: {interval: 6}, logger: {interval: 1}}\n"
         "randomness: {seed: 1}\nenv_cfg: {device: cpu}\n";
}

class Rasters : public ::testing::Test {
 protected:
  /// One training for all tests of this file.
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    write_scene(*dir_, "train");
    write_scene(*dir_, "val");
    dir_->write("ten.yaml", small_setting());
    trained_ = run("train", "ten.yaml --work-dir w");
  }
  static void TearDownTestSuite() { delete dir_; }
  void SetUp() override { ASSERT_EQ(trained_.status, 0) << trained_.output; }

  static CommandResult run(const std::string& tool, const std::string& rest) {
    return run_command("cd " + dir_->path().string() + " && OMP_NUM_THREADS=1 " +
                       program_path(tool) + " " + rest);
  }
  static std::string scene(const std::string& name) { return *dir_ / name; }

  static TempDir* dir_;
  static CommandResult trained_;
};
TempDir* Rasters::dir_ = nullptr;
CommandResult Rasters::trained_{};

TEST_F(Rasters, TrainByWindows) {
  // 3 rows of 5 windows, all of them with labels.
  EXPECT_THAT(trained_.output, HasSubstr("windows: 15 of 1 raster"));
  EXPECT_THAT(trained_.output, HasSubstr("train: 15 samples"));
  EXPECT_THAT(trained_.output, HasSubstr("Iter(train) [6/6]"));
  EXPECT_TRUE(fs::exists(*dir_ / "w/iter_6.pth"));
}

/// The mean over windows that do not overlap is that over the whole raster, and the files of the
/// windows lie where their pixels are.
TEST_F(Rasters, TestByWindows) {
  const CommandResult tested = run("test", "ten.yaml w/iter_6.pth --work-dir t --out windows");
  ASSERT_EQ(tested.status, 0) << tested.output;
  cv::Mat ids(kHeight, kWidth, CV_8UC1);
  for (int y = 0; y < kHeight; y += 32) {
    for (int x = 0; x < kWidth; x += 32) {
      const std::string path = scene(text("windows/scene_y", y, "_x", x, ".tif"));
      read_labels(path).copyTo(ids(cv::Rect(x, y, 32, 32)));
      EXPECT_EQ(read_georeference(path), place_of_rasters().of_part(x, y));
    }
  }
  EXPECT_EQ(read_georeference(scene("windows/scene_y32_x64.tif")).tiepoints,
            (std::vector<double>{0, 0, 0, 600640, 5699680, 0}));
  // As the metric counts: 10 is class 0, 80 is class 7, and 0 is no class.
  const cv::Mat labels = read_labels(scene("data/ann/val/scene.tif"));
  double both[11] = {}, either[11] = {};
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const int code = labels.at<uint8_t>(y, x), found = ids.at<uint8_t>(y, x);
      if (code == 0) continue;
      const int truth = code / 10 - 1;
      both[truth] += truth == found;
      ++either[truth];
      if (found != truth) ++either[found];
    }
  }
  double sum = 0;
  int classes = 0;
  for (int c = 0; c < 11; ++c) {
    if (either[c] == 0) continue;
    sum += both[c] / either[c];
    ++classes;
  }
  char expected[32];
  std::snprintf(expected, sizeof expected, "mIoU: %.2f", 100 * sum / classes);
  EXPECT_THAT(tested.output, HasSubstr(expected));
  // Predicted by the same windows, the raster as a whole is the same.
  const CommandResult predicted = run(
      "predict", "ten.yaml w/iter_6.pth data/img/val/scene.tif --out tiles --tile 32 --overlap 0");
  ASSERT_EQ(predicted.status, 0) << predicted.output;
  const std::string path = scene("tiles/scene_ids.tif");
  EXPECT_EQ(cv::norm(read_labels(path), ids, cv::NORM_INF), 0);
  EXPECT_EQ(read_georeference(path), place_of_rasters());
  EXPECT_EQ(read_image(scene("tiles/scene.png")).size(), cv::Size(kWidth, kHeight));
}

TEST_F(Rasters, PredictionsKeepTheGeoreference) {
  const CommandResult whole =
      run("predict", "ten.yaml w/iter_6.pth data/img/val/scene.tif --out whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  EXPECT_EQ(read_georeference(scene("whole/scene_ids.tif")), place_of_rasters());
  EXPECT_EQ(read_labels(scene("whole/scene_ids.tif")).size(), cv::Size(kWidth, kHeight));
  EXPECT_FALSE(fs::exists(scene("whole/scene_ids.png")));
  const CommandResult tiles =
      run("predict", "ten.yaml w/iter_6.pth data/img/val --out overlapping --tile 48");
  ASSERT_EQ(tiles.status, 0) << tiles.output;
  EXPECT_THAT(tiles.output, HasSubstr("scene.tif: 64x96 pixels are predicted by tiles of 48x48, of "
                                      "which 32x32 are kept"));
  EXPECT_EQ(read_georeference(scene("overlapping/scene_ids.tif")), place_of_rasters());
  EXPECT_EQ(read_labels(scene("overlapping/scene_ids.tif")).size(), cv::Size(kWidth, kHeight));
  // Without a georeference the ids of an image are a PNG.
  fs::create_directories(scene("plain"));
  cv::Mat plain_image(32, 32, CV_16UC(kBands));
  cv::RNG(1).fill(plain_image, cv::RNG::UNIFORM, 500, 1500);
  write_raster(scene("plain/a.tif"), plain_image, {});
  const CommandResult plain = run("predict", "ten.yaml w/iter_6.pth plain --out plain_out");
  ASSERT_EQ(plain.status, 0) << plain.output;
  EXPECT_TRUE(fs::exists(scene("plain_out/a_ids.png")));
}

TEST_F(Rasters, StatisticsOfTheirBands) {
  const CommandResult result = run("browse_dataset", "ten.yaml --split val --statistics");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("# of 6 images, for model.data_preprocessor\nmean: ["));
  EXPECT_THAT(result.output, HasSubstr("\nstd: ["));
  EXPECT_FALSE(fs::exists(scene("work_dirs")));
}

}  // namespace
}  // namespace seg::test
