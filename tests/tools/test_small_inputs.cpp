/// Small words on the command line: colours, empty values, a test at another scale.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "registry/text.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class SmallInputs : public ::testing::Test {
 protected:
  SmallInputs() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("files.yaml", files_config(""));
    write_tiny_dataset(dir_, 2, 5, 32, 40);
  }
  /// A test on the images of the folder.
  /// \param resize  a step before the labels are loaded.
  static std::string files_config(const std::string& resize) {
    return "_base_: tiny.yaml\ntest_dataloader: {dataset: " +
           tiny_dataset_yaml(resize + "{type: LoadAnnotations}, {type: PackSegInputs}") + "}\n";
  }
  CommandResult run(const std::string& line) const { return run_program_line(dir_, line); }
  /// The weights of one step, in w/iter_1.pth.
  void train_one_step() const {
    const CommandResult result =
        run("train tiny.yaml --work-dir w --quiet --cfg-options train_cfg.max_iters=1 "
            "train_cfg.val_interval=1");
    ASSERT_EQ(result.status, 0) << result.output;
  }
  TempDir dir_;
};

TEST_F(SmallInputs, ColoursHaveNames) {
  train_one_step();
  const std::string predict = "predict files.yaml w/iter_1.pth img --out p --palette ";
  const CommandResult one = run(predict + "red");
  EXPECT_EQ(one.status, 2);
  EXPECT_THAT(one.output,
              HasSubstr("predict: --palette has 1 colour for 5 classes (see predict --help)\n"));
  const CommandResult unknown = run(predict + "scarlet");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.output,
              HasSubstr("predict: --palette: 'scarlet' is neither a file of colours nor a type of "
                        "data set nor 'default', and no list of colours as '#e6194b' or 'red', one "
                        "for each class. (see predict --help)\n"));
  const CommandResult five = run(predict + "Red '#102030' blue grey Orange");
  EXPECT_EQ(five.status, 0) << five.output;
  dir_.write("colours.txt", "red\n1 2 3\nblue\n#102030\nteal\n");
  const CommandResult file = run(predict + "colours.txt");
  EXPECT_EQ(file.status, 0) << file.output;
}

TEST_F(SmallInputs, EmptyValuesReachTheConfig) {
  const CommandResult printed =
      run("print_config tiny.yaml --cfg-options 'model.train_cfg={}' 'param_scheduler=[]'");
  EXPECT_EQ(printed.status, 0) << printed.output;
  EXPECT_THAT(printed.output, HasSubstr("  train_cfg: {}\n"));
  EXPECT_THAT(printed.output, HasSubstr("param_scheduler: []\n"));
  const CommandResult checked =
      run("print_config tiny.yaml --check --cfg-options 'model.train_cfg={}'");
  EXPECT_EQ(checked.status, 0) << checked.output;
  const CommandResult mapping =
      run("print_config tiny.yaml --cfg-options 'model.test_cfg={mode: slide}'");
  EXPECT_EQ(mapping.status, 1);
  EXPECT_THAT(mapping.output,
              HasSubstr("--cfg-options #1: error: model.test_cfg: a mapping is given key by key, "
                        "as 'model.test_cfg.KEY=VALUE'; only an empty one, {}, is a value of its "
                        "own: got {mode: slide}"));
}

TEST_F(SmallInputs, ATestAtAnotherScaleIsReported) {
  train_one_step();
  dir_.write("large.yaml", files_config("{type: Resize, scale_factor: 3.0}, "));
  const CommandResult large = run("test large.yaml w/iter_1.pth --work-dir t");
  ASSERT_EQ(large.status, 0) << large.output;
  EXPECT_THAT(large.output,
              ContainsRegex("WARNING - training resizes images by [0-9.]+ to [0-9.]+, the test by "
                            "3: models recognise objects at the sizes that they were trained on. "
                            "Give both pipelines a Resize to the same scale"));
  const CommandResult same = run("test files.yaml w/iter_1.pth --work-dir t");
  ASSERT_EQ(same.status, 0) << same.output;
  EXPECT_THAT(same.output, Not(HasSubstr("training resizes images")));
  // A machine that tests need not have the images of training.
  dir_.write("alone.yaml", R"(_base_: large.yaml
train_dataloader:
  dataset:
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: nowhere, seg_map_path: nowhere}
    metainfo: {classes: [background, disc, square, triangle, ring]}
    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]
)");
  const CommandResult alone = run("test alone.yaml w/iter_1.pth --work-dir t");
  ASSERT_EQ(alone.status, 0) << alone.output;
  EXPECT_THAT(alone.output, Not(HasSubstr("training resizes images")));
}

}  // namespace
}  // namespace seg::test
