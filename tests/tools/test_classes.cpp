/// What the programs say of classes that do not agree, and how tools/list and print_config answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/text.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ProgramsOfClasses : public ::testing::Test {
 protected:
  ProgramsOfClasses() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("pairs.yaml",
               "_base_: tiny.yaml\n"
               "model: {decode_head: {num_classes: 3}}\n"
               "train_dataloader:\n"
               "  num_workers: 1\n"
               "  dataset: &set\n"
               "    _delete_: true\n"
               "    type: BaseSegDataset\n"
               "    data_prefix: {img_path: img, seg_map_path: ann}\n"
               "    img_suffix: .png\n"
               "    metainfo: {classes: [ground, red, green]}\n"
               "    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: "
               "PackSegInputs}]\n"
               "val_dataloader: &val {dataset: *set}\n"
               "test_dataloader: *val\n"
               "train_cfg: {max_iters: 1}\n");
    write_tiny_dataset(dir_, 3, 3, 32, 32);
  }
  CommandResult run(const std::string& line) const { return run_program_line(dir_, line); }
  TempDir dir_;
};

TEST_F(ProgramsOfClasses, ATestKnowsTheOrderOfTheTraining) {
  const CommandResult training = run("train pairs.yaml --work-dir w");
  ASSERT_EQ(training.status, 0) << training.output;
  const std::string order =
      "test_dataloader: {dataset: {metainfo: {classes: [green, red, ground]}}}\n";
  // A config for tests alone: nothing but the checkpoint knows what was trained.
  dir_.write("b.yaml",
             "_base_: pairs.yaml\ntrain_dataloader: null\ntrain_cfg: null\n"
             "optim_wrapper: null\nval_dataloader: null\nval_evaluator: null\n" +
                 order);
  const CommandResult test = run("test b.yaml w/iter_1.pth --work-dir t");
  EXPECT_EQ(test.status, 1);
  EXPECT_EQ(test.output,
            "b.yaml:7:49: error: test_dataloader.dataset.metainfo.classes: has the classes of the "
            "checkpoint w/iter_1.pth in another order: [green, red, ground] instead of [ground, "
            "red, green]. Write metainfo: {classes: [ground, red, green]}\n"
            "1 error in the configuration\n");
  const CommandResult prediction = run("predict b.yaml w/iter_1.pth img --out o");
  EXPECT_EQ(prediction.status, 1);
  EXPECT_THAT(prediction.output, HasSubstr("in another order: [green, red, ground]"));
  // As differences.md says.
  const CommandResult mended =
      run("test b.yaml w/iter_1.pth --work-dir t --cfg-options "
          "'test_dataloader.dataset.metainfo.classes=[ground,red,green]'");
  EXPECT_EQ(mended.status, 0) << mended.output;

  dir_.write("a.yaml",
             "_base_: pairs.yaml\nval_dataloader: {dataset: {metainfo: {classes: [green, "
             "red, ground]}}}\n");
  const CommandResult other = run("train a.yaml --work-dir v");
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(other.output, HasSubstr("a.yaml:2:48: error: val_dataloader.dataset.metainfo"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "v"));
}

TEST_F(ProgramsOfClasses, ListFindsWords) {
  const CommandResult ema = run("list ema");
  EXPECT_EQ(ema.status, 0);
  EXPECT_THAT(ema.output, StartsWith("EMAHead (decode_head): "));
  EXPECT_THAT(ema.output, AllOf(HasSubstr("\nEMAHook (hook): "), Not(HasSubstr("ELU"))));
  const CommandResult freeze = run("list freeze");
  EXPECT_EQ(freeze.status, 0);
  EXPECT_THAT(freeze.output, HasSubstr("frozen_stages (option of "));
  const CommandResult several = run("list early stopping");
  EXPECT_THAT(several.output, StartsWith("EarlyStoppingHook (hook): "));
  // The name itself comes first, then those that begin with it.
  const CommandResult interval = run("list interval");
  EXPECT_THAT(interval.output, StartsWith("interval (option of "));
  EXPECT_THAT(run("list load_from").output, StartsWith("load_from (top-level key): "));
  // Options of mappings in options, too.
  EXPECT_THAT(run("list batch size").output,
              HasSubstr("batch_size (option of train_dataloader, val_dataloader, test_dataloader"));
  EXPECT_THAT(run("list slide").output,
              AllOf(HasSubstr("mode (option of "), HasSubstr("EncoderDecoder.test_cfg")));
  // Where nothing has the word, the nearest name is of help.
  const CommandResult none = run("list SegformerHed");
  EXPECT_EQ(none.status, 2);
  EXPECT_THAT(none.output, HasSubstr("Did you mean 'SegformerHead'?"));
}

TEST_F(ProgramsOfClasses, ExplanationsShowReferencesAsWritten) {
  dir_.write("a.yaml",
             "_base_: tiny.yaml\nnum: 5\ntrain_cfg: {max_iters: 7}\n"
             "log_processor: {window_size: 3}\n");
  dir_.write("b.yaml",
             "_base_: a.yaml\nmodel: {decode_head: {num_classes: '{{_base_.num}}'}}\n"
             "default_hooks: {logger: {interval: \"{{_base_.num}}\"}}\n");
  EXPECT_THAT(run("print_config b.yaml --explain default_hooks.logger.interval").output,
              HasSubstr("  b.yaml:3:36: \"{{_base_.num}}\"\n"));
  const std::string head = run("print_config b.yaml --explain model.decode_head").output;
  EXPECT_THAT(head, HasSubstr("\"{{_base_.num}}\" (b.yaml:2:36)"));
  EXPECT_THAT(head, Not(HasSubstr("\\x7B")));
  // Of a mapping, all files that it is put together from.
  EXPECT_THAT(head, HasSubstr(", b.yaml, a.yaml: {type: SegformerHead"));
  EXPECT_THAT(run("print_config b.yaml --explain train_cfg").output,
              HasSubstr("train_cfg\n  tiny.yaml:70:12, a.yaml: {type: IterBasedTrainLoop"));
}

}  // namespace
}  // namespace seg::test
