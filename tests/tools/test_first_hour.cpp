/// What people meet who try the programs for the first time: slips in configs, and pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <regex>

#include "runners/log/progress_bar.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class FirstHour : public ::testing::Test {
 protected:
  FirstHour() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("mine.yaml",
               "_base_: tiny.yaml\n"
               "model: {decode_head: {num_classes: 3}}\n"
               "train_dataloader:\n"
               "  dataset: &set\n"
               "    _delete_: true\n"
               "    type: BaseSegDataset\n"
               "    data_prefix: {img_path: img, seg_map_path: ann}\n"
               "    img_suffix: .png\n"
               "    metainfo: {classes: [ground, red, green]}\n"
               "    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: "
               "RandomCrop, crop_size: [32, 32]}, {type: PackSegInputs}]\n"
               "val_dataloader: &val {dataset: *set}\n"
               "test_dataloader: *val\n"
               "train_cfg: {max_iters: 1}\n");
    write_tiny_dataset(dir_, 3, 3, 32, 32);
  }
  CommandResult run(const std::string& line) const { return run_program_line(dir_, line); }
  TempDir dir_;
};

TEST_F(FirstHour, AWrongFolderOrClassIsReportedWhereItIsWritten) {
  dir_.write("child.yaml",
             "_base_: mine.yaml\n"
             "train_dataloader: {dataset: {data_prefix: {seg_map_path: masks}}}\n");
  EXPECT_THAT(
      run("train child.yaml --work-dir w --quiet").output,
      HasSubstr("child.yaml:2:58: error: train_dataloader.dataset.data_prefix.seg_map_path: "
                "there is no folder 'masks'"));
  dir_.write("child.yaml",
             "_base_: mine.yaml\n"
             "train_dataloader: {dataset: {metainfo: {classes: other, road}}}\n");
  EXPECT_THAT(
      run("print_config child.yaml --check").output,
      HasSubstr("child.yaml:2:50: error: train_dataloader.dataset.metainfo.classes: must be "
                "a list of names or a file of them; other: there is no such file"));
}

TEST_F(FirstHour, AMisspeltStepOfAPipelineFindsItsName) {
  dir_.write("child.yaml",
             "_base_: mine.yaml\n"
             "train_dataloader: {dataset: {pipeline: {RandomCorp: {crop_size: [16, 16]}}}}\n");
  EXPECT_EQ(
      run("print_config child.yaml").output,
      "child.yaml:2:40: error: train_dataloader.dataset.pipeline: cannot merge a mapping into "
      "a list (mine.yaml:10:15). None of its elements is a 'RandomCorp'. Did you mean "
      "'RandomCrop'? A mapping changes elements by their index or type (LoadImageFromFile, "
      "LoadAnnotations, RandomCrop, PackSegInputs). Add '_delete_: true' to replace it\n"
      "1 error in the configuration\n");
  EXPECT_THAT(run("print_config mine.yaml --cfg-options "
                  "train_dataloader.dataset.pipeline.RandomCorp.crop_size=8")
                  .output,
              HasSubstr("instead of 'RandomCorp'. Did you mean 'RandomCrop'?\n"));
}

TEST_F(FirstHour, ExplainTakesTheTypeOfAnElement) {
  EXPECT_EQ(run("print_config mine.yaml --explain "
                "train_dataloader.dataset.pipeline.RandomCrop.crop_size.0")
                .output,
            "train_dataloader.dataset.pipeline.RandomCrop.crop_size.0\n  mine.yaml:10:99: 32\n");
  dir_.write("twice.yaml", "_base_: mine.yaml\ncustom_hooks: [{type: EMAHook}, {type: EMAHook}]\n");
  const CommandResult several = run("print_config twice.yaml --explain custom_hooks.EMAHook.type");
  EXPECT_EQ(several.status, 2);
  EXPECT_THAT(several.output, HasSubstr("has no 'custom_hooks.EMAHook.type'"));
}

TEST_F(FirstHour, ALongNameWithALetterMissingIsFound) {
  dir_.write("child.yaml",
             "_base_: mine.yaml\ncustom_hooks: [{type: EarlyStoping, monitor: mIoU}]\n");
  EXPECT_THAT(run("print_config child.yaml --check").output,
              HasSubstr("no hook is called 'EarlyStoping'. Did you mean 'EarlyStoppingHook'?"));
}

TEST_F(FirstHour, ListSaysWhatItSearched) {
  const CommandResult word = run("list elastic");
  EXPECT_EQ(word.status, 2);
  EXPECT_THAT(word.output,
              StartsWith("list: no name or meaning has the word 'elastic'; no category "
                         "or type is called 'elastic'."));
  EXPECT_THAT(run("list color jitter").output,
              StartsWith("list: no name or meaning has both 'color' and 'jitter'; there is no "
                         "category 'color'."));
  EXPECT_THAT(run("list hook Nothing").output, HasSubstr("no hook is called 'Nothing'. Known: "));
  // Both spellings, and which of two types of one name.
  EXPECT_THAT(run("list color").output, HasSubstr("SyntheticShapesDataset (dataset): Coloured"));
  EXPECT_THAT(run("list colour").output, HasSubstr("color_type (option of "));
  EXPECT_THAT(run("list naive_dice").output,
              HasSubstr("(option of loss DiceLoss, mask loss DiceLoss, DiceCost)"));
}

TEST_F(FirstHour, FrozenWeightsAndThoseThatStartAnewAreReported) {
  const CommandResult first =
      run("train mine.yaml --work-dir w --quiet --cfg-options "
          "'freeze=[\"^backbone\"]'");
  ASSERT_EQ(first.status, 0) << first.output;
  EXPECT_TRUE(
      std::regex_search(first.output, std::regex("freeze: [0-9]+ tensors, [0-9]+ parameters\n")))
      << first.output;
  dir_.write("two.yaml",
             "_base_: mine.yaml\nload_from: w/iter_1.pth\n"
             "model: {decode_head: {num_classes: 4}}\n");
  EXPECT_THAT(run("train two.yaml --work-dir v --quiet").output,
              HasSubstr("[3], the model [4]\nweights that are missing or of another size start "
                        "anew\n"));
  EXPECT_THAT(run("convert w/iter_1.pth a.pth --key ema").output,
              HasSubstr("there is no state dict 'ema' in it; it has state_dict, ema_state_dict\n"));
  EXPECT_THAT(run("predict mine.yaml w/iter_1.pth img --out p --palette '#ffffff'").output,
              HasSubstr("predict: --palette has 1 colour for 3 classes (see predict --help)\n"));
}

TEST_F(FirstHour, WordsInPicturesAreNotCutOff) {
  ASSERT_EQ(run("train mine.yaml --work-dir w --quiet").status, 0);
  ASSERT_EQ(run("test mine.yaml w/iter_1.pth --work-dir t --quiet --confusion c.png").status, 0);
  // Three classes with short names are narrower than the title: the margins around it are white.
  const cv::Mat picture = read_image(dir_ / "c.png");
  EXPECT_GE(picture.cols, 16 + 420);
  const std::string name = "a name that is far wider than a picture of 300 pixels could ever be";
  ASSERT_EQ(run("analyze_logs w w --keys loss --size 300x200 --out a.svg --title '" + name +
                "' --legend '" + name + "' other")
                .status,
            0);
  const std::string svg = dir_.read("a.svg");
  EXPECT_THAT(svg, Not(HasSubstr(name)));
  EXPECT_TRUE(std::regex_search(svg, std::regex(">a name that is [^<]*\\.\\.\\.</text>"))) << svg;
}

TEST(FirstHourRates, SlowOnesAreSecondsOfAnImage) {
  EXPECT_EQ(rate_text(52.14), "52.1 images/s");
  EXPECT_EQ(rate_text(1), " 1.0 images/s");
  EXPECT_EQ(rate_text(99.97), " 100 images/s");
  EXPECT_EQ(rate_text(0.04), "25.0 s/image");
}

}  // namespace
}  // namespace seg::test
