/// What people bring as images, masks and folders, tried with the programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "segcore/image/image_io.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Inputs : public ::testing::Test {
 protected:
  Inputs() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("files.yaml",
               R"(
_base_: tiny.yaml
train_dataloader: {batch_size: 2, dataset: &files {_delete_: true, type: BaseSegDataset, data_root: )" +
                   dir_.path().string() + R"(, data_prefix: {img_path: img, seg_map_path: ann},
  img_suffix: .png, metainfo: {classes: [background, disc, square, triangle, ring]},
  pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: RandomCrop, crop_size: [32, 32]}, {type: PackSegInputs}]}}
val_dataloader: {batch_size: 1, dataset: {_delete_: true, type: BaseSegDataset, data_root: )" +
                   dir_.path().string() + R"(, data_prefix: {img_path: img, seg_map_path: ann},
  img_suffix: .png, metainfo: {classes: [background, disc, square, triangle, ring]},
  pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]}}
test_dataloader: {batch_size: 1, dataset: {_delete_: true, type: BaseSegDataset, data_root: )" +
                   dir_.path().string() + R"(, data_prefix: {img_path: img, seg_map_path: ann},
  img_suffix: .png, metainfo: {classes: [background, disc, square, triangle, ring]},
  pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]}}
train_cfg: {max_iters: 2, val_interval: 2}
)");
  }
  CommandResult tool(const std::string& name, const std::string& rest) const {
    return run_command("OMP_NUM_THREADS=1 " + program_path(name) + " " + rest);
  }
  CommandResult train(const std::string& rest = "") const {
    return tool("train", dir_ / "files.yaml" + " --work-dir " + dir_ / "w" + rest);
  }
  /// Weights of a run on drawn shapes.
  void make_weights() const {
    const CommandResult made =
        tool("train", dir_ / "tiny.yaml" + " --work-dir " + dir_ / "g" +
                          " --cfg-options train_cfg.max_iters=1 train_cfg.val_interval=1");
    ASSERT_EQ(made.status, 0) << made.output;
    fs::copy_file(dir_ / "g/iter_1.pth", dir_ / "good.pth");
  }

  TempDir dir_;
};

TEST_F(Inputs, SubfoldersAreKeptInWhatATestWrites) {
  make_weights();
  for (const char* folder : {"a", "b"}) {
    write_png(dir_ / ("img/" + std::string(folder) + "/00.png"), tiny_image(40, 40, 1));
    write_png(dir_ / ("ann/" + std::string(folder) + "/00.png"), tiny_labels(40, 40, 5));
  }
  const CommandResult result =
      tool("test", dir_ / "files.yaml" + " " + dir_ / "good.pth" + " --work-dir " + dir_ / "t" +
                       " --out " + dir_ / "ids" + " --show-dir " + dir_ / "shown");
  ASSERT_EQ(result.status, 0) << result.output;
  for (const char* name : {"ids/a/00.png", "ids/b/00.png", "shown/a/00.png", "shown/b/00.png"}) {
    EXPECT_TRUE(fs::exists(dir_ / name)) << name;
  }
}

TEST_F(Inputs, PredictWalksFoldersAsDataSetsDo) {
  make_weights();
  write_png(dir_ / "img/00.png", tiny_image(40, 40, 1));
  write_png(dir_ / "more/01.png", tiny_image(40, 40, 2));
  fs::create_directory_symlink(dir_ / "more", dir_ / "img/linked");
  fs::create_directory_symlink(dir_ / "more", dir_ / "more/again");
  dir_.write("img/.ipynb_checkpoints/00-checkpoint.png", "no picture");
  dir_.write("img/._00.png", "no picture");
  dir_.write(
      "img/tiny.ppm", "P3 40 40 255 " + [] {
        std::string out;
        for (int i = 0; i < 4800; ++i) out += " 90";
        return out;
      }());
  const std::string longest = std::string(250, 'n') + ".png";
  write_png(dir_ / "x.png", tiny_image(40, 40, 3));
  fs::rename(dir_ / "x.png", dir_ / ("img/" + longest));
  const CommandResult result = tool("predict", dir_ / "tiny.yaml" + " " + dir_ / "good.pth" + " " +
                                                   dir_ / "img" + " --out " + dir_ / "out");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("[4/4]"));
  EXPECT_THAT(result.output, HasSubstr("1 link leads back to a folder above it"));
  EXPECT_TRUE(fs::exists(dir_ / "out/linked/01_ids.png"));
  EXPECT_TRUE(fs::exists(dir_ / "out/tiny.png"));
}

TEST_F(Inputs, PhotosTurnedByExifAreNamedBeforeTheFirstStep) {
  write_tiny_dataset(dir_, 3, 5, 40, 40);
  fs::remove(dir_ / "img/01.png");
  // 24 x 16 as stored, turned upright to 16 x 24 when it is loaded.
  fs::copy_file(source_path("tests/data/images/exif_6.jpg"), dir_ / "img/01.png");
  write_png(dir_ / "ann/01.png", tiny_labels(16, 24, 5));
  const CommandResult result = train();
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr((dir_ / "ann/01.png") +
                        ": the labels are 24 x 16 pixels (width x height), "
                        "but the image " +
                        (dir_ / "img/01.png") +
                        " is 16 x 24. The image is turned upright by its EXIF orientation 6, but "
                        "the labels were drawn on it as it is stored: set color_type: "
                        "color_ignore_orientation at LoadImageFromFile, or turn the labels"));
  EXPECT_THAT(result.output, Not(HasSubstr("Iter(train)")));
}

TEST_F(Inputs, WrongLabelsAreNamedInTheCheckAndInTraining) {
  write_tiny_dataset(dir_, 40, 5, 40, 40);
  // Not among the 32 that are looked at.
  write_png(dir_ / "ann/04.png", cv::Mat(40, 40, CV_8UC1, cv::Scalar(9)));
  const std::string named = (dir_ / "ann/04.png") + ": ";
  const CommandResult run =
      train(" --cfg-options train_cfg.max_iters=40 train_cfg.val_interval=40");
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.output, HasSubstr(named + "label 9 at row "));
  const CommandResult checked = train(" --check-data all");
  EXPECT_EQ(checked.status, 1);
  EXPECT_THAT(checked.output, HasSubstr(named + "the label 9 at row 0, column 0 is none of the 5"));
  EXPECT_THAT(checked.output, Not(HasSubstr("Iter(train)")));
  const CommandResult browsed =
      tool("browse_dataset", dir_ / "files.yaml" + " --check --num 1 --out " + dir_ / "b");
  EXPECT_EQ(browsed.status, 1);
  EXPECT_THAT(browsed.output, HasSubstr(named + "the label 9 at row 0, column 0"));
  EXPECT_EQ(train(" --check-data some").status, 2);
}

TEST_F(Inputs, PredictNamesARasterWithNaN) {
  make_weights();
  fs::create_directories(dir_ / "tif");
  fs::copy_file(source_path("tests/data/images/nan.tif"), dir_ / "tif/a.tif");
  dir_.write("raster.yaml",
             "_base_: files.yaml\ntest_dataloader: {dataset: {pipeline: [{type: "
             "LoadSingleRSImageFromFile}, {type: PackSegInputs}]}}\n");
  fs::create_directories(dir_ / "img");
  const CommandResult result = tool("predict", dir_ / "raster.yaml" + " " + dir_ / "good.pth" +
                                                   " " + dir_ / "tif" + " --out " + dir_ / "out");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr((dir_ / "tif/a.tif") + ": holds NaN at row 3, column 4"));
}

}  // namespace
}  // namespace seg::test
