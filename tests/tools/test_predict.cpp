/// tools/predict as people call it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <opencv2/imgproc.hpp>

#include "registry/text.hpp"
#include "segcore/evaluation/prediction_picture.hpp"
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

class Predict : public ::testing::Test {
 protected:
  /// One training for all tests of this file.
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    dir_->write("tiny.yaml", tiny_run_yaml());
    trained_ =
        run_command(tool("train") + " " + *dir_ / "tiny.yaml" + " --work-dir " + *dir_ / "w" +
                    " --cfg-options train_cfg.max_iters=2 train_cfg.val_interval=2");
  }
  static void TearDownTestSuite() { delete dir_; }
  void SetUp() override { ASSERT_EQ(trained_.status, 0) << trained_.output; }

  static std::string tool(const std::string& name) {
    return std::string("OMP_NUM_THREADS=1 ") + program_path(name);
  }
  static CommandResult predict(const std::string& rest) {
    return run_command(tool("predict") + " " + *dir_ / "tiny.yaml" + " " + *dir_ / "w/iter_2.pth" +
                       " " + rest);
  }

  static TempDir* dir_;
  static CommandResult trained_;
};
TempDir* Predict::dir_ = nullptr;
CommandResult Predict::trained_{};

TEST_F(Predict, DoesAFolderAndNamesWhatItCannotRead) {
  write_png(*dir_ / "in/a.png", tiny_image(20, 30, 1));
  write_jpeg(*dir_ / "in/a.jpg", tiny_image(20, 30, 2));
  write_png(*dir_ / "in/deeper/b.png", tiny_image(41, 33, 3));
  dir_->write("in/broken.png", "no picture");
  dir_->write("in/notes.txt", "not an image");
  const CommandResult result = predict(*dir_ / "in" + " --out " + *dir_ / "in/out");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("error: 1 of 4 images could not be predicted:"));
  EXPECT_THAT(result.output, HasSubstr("broken.png"));
  EXPECT_THAT(result.output, Not(HasSubstr("notes.txt")));
  for (const char* name : {"a.png", "a.jpg", "deeper/b"}) {
    EXPECT_TRUE(fs::exists(*dir_ / ("in/out/" + std::string(name) + ".png"))) << name;
    EXPECT_TRUE(fs::exists(*dir_ / ("in/out/" + std::string(name) + "_ids.png"))) << name;
  }
  const cv::Mat ids = read_labels(*dir_ / "in/out/deeper/b_ids.png");
  EXPECT_EQ(ids.size(), cv::Size(33, 41));
  EXPECT_EQ(read_image(*dir_ / "in/out/deeper/b.png").size(), cv::Size(33, 41));
  for (int y = 0; y < ids.rows; ++y) {
    for (int x = 0; x < ids.cols; ++x) ASSERT_LT(ids.at<uint8_t>(y, x), 5);
  }
  // What was written is not read in turn.
  dir_->write("in/broken.png", "");
  fs::remove(*dir_ / "in/broken.png");
  const CommandResult again = predict(*dir_ / "in" + " --out " + *dir_ / "in/out");
  EXPECT_EQ(again.status, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("[3/3]"));
}

TEST_F(Predict, TakesSeveralInputs) {
  write_png(*dir_ / "many/a.png", tiny_image(20, 30, 1));
  write_png(*dir_ / "many/b.png", tiny_image(20, 30, 2));
  write_png(*dir_ / "other/b.png", tiny_image(20, 30, 3));
  // As a shell expands many/*.png; an image of a folder that is given too is done once.
  const CommandResult result = predict(text(*dir_ / "many/a.png", " ", *dir_ / "many/b.png", " ",
                                            *dir_ / "many", " --out ", *dir_ / "several"));
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("predicting 2 images on cpu"));
  EXPECT_THAT(result.output, HasSubstr("[2/2]"));
  for (const char* name : {"a.png", "a_ids.png", "b.png", "b_ids.png", "classes.png"}) {
    EXPECT_TRUE(fs::exists(*dir_ / ("several/" + std::string(name)))) << name;
  }
  // A link beside its image is predicted under its own name.
  fs::create_symlink("a.png", *dir_ / "many/linked.png");
  const CommandResult linked = predict(*dir_ / "many" + " --out " + *dir_ / "links");
  EXPECT_EQ(linked.status, 0) << linked.output;
  EXPECT_TRUE(fs::exists(*dir_ / "links/a_ids.png"));
  EXPECT_TRUE(fs::exists(*dir_ / "links/linked_ids.png"));
  const CommandResult both =
      predict(*dir_ / "many/b.png" + " " + *dir_ / "other/b.png" + " --out " + *dir_ / "both");
  EXPECT_EQ(both.status, 1);
  EXPECT_THAT(both.output, HasSubstr("error: the predictions of " + *dir_ / "many/b.png" + " and " +
                                     *dir_ / "other/b.png" + " would both be "));
}

TEST_F(Predict, ReportsASingleImageOnce) {
  dir_->write("single.png", "no picture");
  const CommandResult result = predict(*dir_ / "single.png" + " --out " + *dir_ / "single");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("error: 1 of 1 images could not be predicted:\n  "));
  const size_t first = result.output.find("single.png: ");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(result.output.find("single.png: ", first + 1), std::string::npos) << result.output;
}

TEST_F(Predict, OpacityZeroShowsTheImage) {
  const cv::Mat image = tiny_image(16, 24, 5);
  write_png(*dir_ / "one.png", image);
  const CommandResult result =
      predict(*dir_ / "one.png" + " --out " + *dir_ / "clear" + " --opacity 0 --device cpu");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(cv::norm(image, read_image(*dir_ / "clear/one.png"), cv::NORM_INF), 0);
}

/// The pictures that a test draws are turned as the pipeline turns what the model sees.
TEST_F(Predict, TestShowsImagesUpright) {
  fs::create_directories(*dir_ / "turned/img");
  fs::copy_file(source_path("tests/data/images/exif_6.jpg"), *dir_ / "turned/img/a.jpg");
  const cv::Mat upright = read_image(*dir_ / "turned/img/a.jpg");
  ASSERT_EQ(upright.size(), cv::Size(16, 24));
  write_png(*dir_ / "turned/ann/a.png", tiny_labels(24, 16, 5));
  dir_->write(
      "turned.yaml",
      text("_base_: tiny.yaml\ntest_dataloader:\n  dataset:\n"
           "    _delete_: true\n    type: BaseSegDataset\n    data_root: ",
           *dir_ / "turned",
           "\n    data_prefix: {img_path: img, seg_map_path: ann}\n"
           "    metainfo: {classes: [background, disc, square, triangle, ring]}\n    pipeline:\n"
           "    - {type: LoadImageFromFile}\n    - {type: LoadAnnotations}\n"
           "    - {type: PackSegInputs}\n"));
  const CommandResult result =
      run_command(tool("test") + " " + *dir_ / "turned.yaml" + " " + *dir_ / "w/iter_2.pth" +
                  " --work-dir " + *dir_ / "t" + " --show-dir " + *dir_ / "shown");
  ASSERT_EQ(result.status, 0) << result.output;
  const cv::Mat shown = read_image(*dir_ / "shown/a.png");
  const cv::Rect panel = image_panel(upright.size());
  ASSERT_GE(shown.rows, 2 * panel.height);
  ASSERT_GE(shown.cols, 2 * panel.width);
  cv::Mat enlarged;
  cv::resize(upright, enlarged, panel.size(), 0, 0, cv::INTER_NEAREST);
  EXPECT_EQ(cv::norm(shown(panel), enlarged, cv::NORM_INF), 0);
}

/// Too many pixels for one pass: by windows of the size of training, unless asked otherwise.
TEST_F(Predict, LargePicturesAreDoneByWindows) {
  write_png(*dir_ / "large.png", tiny_image(1600, 2600, 4));
  const std::string size = " --cfg-options model.data_preprocessor.size=[160,208]";
  const std::string notice = "1600x2600 pixels are predicted by windows of ";
  const CommandResult windows = predict(*dir_ / "large.png" + " --out " + *dir_ / "l" + size);
  ASSERT_EQ(windows.status, 0) << windows.output;
  EXPECT_THAT(windows.output,
              HasSubstr(notice + "160x208, 106x138 apart (--window 0: as a whole)"));
  const CommandResult same =
      predict(*dir_ / "large.png" + " --out " + *dir_ / "lw --window 160 208");
  ASSERT_EQ(same.status, 0) << same.output;
  EXPECT_THAT(same.output, Not(HasSubstr(notice)));
  EXPECT_EQ(read_labels(*dir_ / "l/large_ids.png").size(), cv::Size(2600, 1600));
  EXPECT_EQ(dir_->read("l/large_ids.png"), dir_->read("lw/large_ids.png"));

  // test_cfg has mode whole here; an explicit window applies to any picture.
  write_png(*dir_ / "small.png", tiny_image(40, 60, 5));
  const auto ids = [&](const std::string& out, const std::string& more) {
    const CommandResult result = predict(*dir_ / "small.png" + " --out " + *dir_ / out + more);
    EXPECT_EQ(result.status, 0) << result.output;
    return read_labels(*dir_ / (out + "/small_ids.png"));
  };
  const std::string slide =
      " --cfg-options model.test_cfg.mode=slide model.test_cfg.crop_size=[24,32] "
      "model.test_cfg.stride=[16,21]";
  const cv::Mat asked = ids("s1", " --window 24 32"), configured = ids("s2", slide);
  EXPECT_EQ(cv::norm(asked, configured, cv::NORM_INF), 0);
  const cv::Mat all = ids("s3", ""), all_too = ids("s4", " --window 0" + slide);
  EXPECT_EQ(cv::norm(all, all_too, cv::NORM_INF), 0);
  EXPECT_NE(cv::norm(all, asked, cv::NORM_INF), 0);
}

/// Weights with a configuration of only the model.
TEST_F(Predict, NeedsNoDataSetInTheConfiguration) {
  dir_->write("alone.yaml", R"(_base_: tiny.yaml
train_dataloader: null
train_cfg: null
optim_wrapper: null
val_dataloader: null
val_evaluator: null
test_dataloader: null
test_evaluator: null
)");
  write_png(*dir_ / "one_more.png", tiny_image(24, 40, 6));
  const CommandResult result =
      run_command(tool("predict") + " " + *dir_ / "alone.yaml" + " " + *dir_ / "w/iter_2.pth" +
                  " " + *dir_ / "one_more.png" + " --out " + *dir_ / "al" + " --opacity 1");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("The configuration has no test pipeline"));
  const CommandResult usual =
      predict(*dir_ / "one_more.png" + " --out " + *dir_ / "us" + " --opacity 1");
  ASSERT_EQ(usual.status, 0) << usual.output;
  // Colours too are those of the data set of training, which the checkpoint knows.
  for (const char* name : {"one_more.png", "one_more_ids.png"}) {
    EXPECT_EQ(dir_->read(std::string("al/") + name), dir_->read(std::string("us/") + name)) << name;
    EXPECT_FALSE(dir_->read(std::string("al/") + name).empty());
  }
}

TEST_F(Predict, WritesOverNoImageAndNoOtherPrediction) {
  write_png(*dir_ / "own/a.png", tiny_image(20, 30, 1));
  write_png(*dir_ / "own/a_ids.png", tiny_image(20, 30, 2));
  const std::string before = dir_->read("own/a.png");
  const CommandResult same = predict(*dir_ / "own" + " --out " + *dir_ / "own");
  EXPECT_EQ(same.status, 1);
  EXPECT_THAT(same.output, HasSubstr("own/a.png is an image to predict, which the prediction of "));
  EXPECT_EQ(dir_->read("own/a.png"), before);
  ASSERT_EQ(predict(*dir_ / "own" + " --out " + *dir_ / "apart").status, 0);
  for (const char* name : {"a.png", "a_ids.png", "a_ids.png.png", "a_ids.png_ids.png"}) {
    EXPECT_TRUE(fs::exists(*dir_ / "apart/" + name)) << name;
  }
}

TEST_F(Predict, NamesAnImageThatIsTooSmallAndDoesTheOthers) {
  write_png(*dir_ / "small/a.png", tiny_image(3, 40, 1));
  write_png(*dir_ / "small/b.png", tiny_image(40, 40, 2));
  const CommandResult result = predict(*dir_ / "small" + " --out " + *dir_ / "small_out");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(
      result.output,
      HasSubstr("small/a.png: images of 3x40 are too small for this MixVisionTransformer: the "
                "map of stage 0 is 1x10 and must be at least 2x2. Enlarge them, or pad "
                "them by size or test_cfg of the data preprocessor"));
  EXPECT_TRUE(fs::exists(*dir_ / "small_out/b.png"));
}

TEST_F(Predict, ReportsWrongInput) {
  const CommandResult missing = predict(*dir_ / "nowhere" + " --out " + *dir_ / "o");
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.output, HasSubstr("nowhere: there is no such file or folder"));
  fs::create_directory(*dir_ / "empty");
  const CommandResult empty = predict(*dir_ / "empty" + " --out " + *dir_ / "o");
  EXPECT_EQ(empty.status, 1);
  EXPECT_THAT(empty.output, HasSubstr("empty: the folder holds no images"));
  EXPECT_EQ(predict(*dir_ / "one.png").status, 2);
  EXPECT_EQ(predict(*dir_ / "one.png" + " --out o --opacity 2").status, 2);
  const CommandResult window = predict(*dir_ / "one.png" + " --out o --window 0 32");
  EXPECT_EQ(window.status, 2);
  EXPECT_THAT(window.output,
              HasSubstr("predict: --window takes a height and a width of at least 1, or 0 alone, "
                        "got 0 32"));
}

}  // namespace
}  // namespace seg::test
