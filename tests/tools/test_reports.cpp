/// Mistakes and surroundings that users of segmentation programs report: what is said of them, and
/// when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>

#include "registry/text.hpp"
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

class Reports : public ::testing::Test {
 protected:
  Reports() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("pairs.yaml", R"(_base_: tiny.yaml
train_dataloader: &pairs
  num_workers: 1
  batch_size: 2
  dataset: )" + tiny_dataset_yaml() +
                                 "\ntest_dataloader: {dataset: " + tiny_dataset_yaml() + "}\n");
    write_tiny_dataset(dir_, 4, 5, 40, 40);
  }

  /// A program with its arguments, in the folder of the test.
  CommandResult run(const std::string& command, const std::string& environment = "") const {
    return run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 " + environment + " " +
                       program_path(command));
  }
  /// The same with a config of these lines over `base`.
  CommandResult check(const std::string& lines, const std::string& base = "tiny.yaml") const {
    dir_.write("own.yaml", "_base_: " + base + "\n" + lines);
    return run("print_config own.yaml --check");
  }
  static std::string short_run(int64_t iters) {
    return text(" --cfg-options train_cfg.max_iters=", iters, " train_cfg.val_interval=100",
                " param_scheduler.1.end=", std::max<int64_t>(iters, 5));
  }

  TempDir dir_;
};

TEST_F(Reports, ASavedWebPageIsNoPicture) {
  dir_.write("img/01.png", "<!DOCTYPE html>\n<html><title>Sign in</title></html>\n");
  const auto result = run("train pairs.yaml --work-dir w");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("error: img/01.png: is a web page: the download went wrong"));
}

TEST_F(Reports, AnImageWithOtherBandsNamesTheOptionOfTheLoader) {
  const auto one = run("train tiny.yaml --work-dir w --cfg-options model.backbone.in_channels=1");
  EXPECT_EQ(one.status, 1);
  EXPECT_THAT(one.output, HasSubstr("has 3 bands, the model takes 1: set "
                                    "model.backbone.in_channels, or color_type: grayscale of "
                                    "LoadImageFromFile"));
  const auto four = run("train tiny.yaml --work-dir w --cfg-options model.backbone.in_channels=4");
  EXPECT_THAT(four.output, HasSubstr("has 3 bands, the model takes 4: set "
                                     "model.backbone.in_channels, or color_type: unchanged of "
                                     "LoadImageFromFile"));
}

TEST_F(Reports, ClassWeightsAreWeights) {
  const auto negative =
      check("model: {decode_head: {loss_decode: {class_weight: [1, -1, 1, 1, 1]}}}");
  EXPECT_EQ(negative.status, 1);
  EXPECT_THAT(negative.output,
              HasSubstr("own.yaml:2:51: error: model.decode_head.loss_decode.class_weight: weights "
                        "are numbers from 0 on, got -1"));
  const auto zero = check("model: {decode_head: {loss_decode: {class_weight: [0, 0, 0, 0, 0]}}}");
  EXPECT_EQ(zero.status, 1);
  EXPECT_THAT(zero.output, HasSubstr("class_weight: all weights are 0: nothing would be learned"));
  EXPECT_EQ(check("model: {decode_head: {loss_decode: {class_weight: [0, 1, 1, 1, 1]}}}").status,
            0);
}

TEST_F(Reports, ASoftmaxOverOneClassIsAnError) {
  const auto result = check("model: {decode_head: {num_classes: 1}}");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(
      result.output,
      HasSubstr("model.decode_head.loss_decode.use_sigmoid: a softmax over the 1 channel of the "
                "logits is always 1. Write use_sigmoid: true"));
}

TEST_F(Reports, OneClassOfMasksWithTwoLabelsLacksTheBackground) {
  const auto result =
      run("train pairs.yaml --work-dir w --cfg-options "
          "'train_dataloader.dataset.metainfo.classes=[thing]' val_dataloader=None "
          "val_evaluator=None test_dataloader=None test_evaluator=None");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("is none of the 1 classes (0 to 0) and not ignored "
                                       "(ignore_index: 255). The background is a class too: name "
                                       "it first in classes"));
}

TEST_F(Reports, EarlyStoppingByALossIsReportedBeforeTraining) {
  dir_.write("stop.yaml",
             "_base_: tiny.yaml\ncustom_hooks: [{type: EarlyStoppingHook, monitor: loss}]\n");
  const auto result = run("train stop.yaml --work-dir w" + short_run(2));
  EXPECT_EQ(result.status, 0) << result.output;
  const size_t said = result.output.find(
      "EarlyStoppingHook: monitor: no metric is called 'loss', so training will not stop early. "
      "Known: aAcc, mIoU, mAcc");
  ASSERT_NE(said, std::string::npos) << result.output;
  EXPECT_LT(said, result.output.find("Iter(train)"));
  dir_.write("strict.yaml",
             "_base_: stop.yaml\ncustom_hooks: [{type: EarlyStoppingHook, monitor: loss, strict: "
             "true}]\n");
  EXPECT_EQ(run("train strict.yaml --work-dir v" + short_run(2)).status, 1);
  EXPECT_FALSE(fs::exists(dir_ / "v/iter_2.pth"));
}

TEST_F(Reports, SchedulesThatDoNotFitTheLengthAreWarned) {
  const std::string length = "train_cfg: {max_iters: 8}\nparam_scheduler:\n";
  EXPECT_THAT(
      check(length + "- {type: MultiStepLR, milestones: [4, 60, 80], by_epoch: false}").output,
      HasSubstr("own.yaml:4:35: param_scheduler.0.milestones: training ends at step "
                "8 and does not reach 60, 80"));
  EXPECT_THAT(check(length + "- {type: PolyLR, end: 160000, by_epoch: false}").output,
              HasSubstr("param_scheduler.0.end: ends at step 160000, training already at 8"));
  EXPECT_THAT(check(length + "- {type: PolyLR, end: 4, by_epoch: false}").output,
              HasSubstr("param_scheduler.0.end: leaves a learning rate of 0 from step 4 on, while "
                        "training goes on to 8"));
  for (const char* good :
       {"- {type: PolyLR, end: 8, by_epoch: false}", "- {type: PolyLR, by_epoch: false}",
        "- {type: PolyLR, end: 4, eta_min: 1.0e-4, by_epoch: false}",
        "- {type: PolyLR, end: 1000000000, by_epoch: false}",
        "- {type: LinearLR, end: 4, by_epoch: false}\n- {type: PolyLR, begin: 4, end: 8, by_epoch: "
        "false}",
        "- {type: MultiStepLR, milestones: [4, 6], by_epoch: false}"}) {
    const auto result = check(length + good);
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.output, Not(HasSubstr("warning"))) << good;
  }
}

TEST_F(Reports, OptionsOfABaseWithAnotherTypeNameTheCure) {
  const auto result = check(
      "train_dataloader:\n"
      "  dataset:\n"
      "    type: ConcatDataset\n"
      "    datasets: []\n",
      "pairs.yaml");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("ConcatDataset has no option 'data_prefix'. Write '_delete_: true' beside "
                        "the type (own.yaml:4:11) to drop the options of pairs.yaml. Known: "));
  const size_t first = result.output.find("_delete_");
  EXPECT_EQ(result.output.find("_delete_", first + 1), std::string::npos) << "said once";
  EXPECT_THAT(check("model: {backbone: {embed_dim: 8}}").output, Not(HasSubstr("_delete_")));
}

TEST_F(Reports, AFolderInPlaceOfACheckpointIsResumedOrNamesOne) {
  ASSERT_EQ(run("train tiny.yaml --work-dir w" + short_run(2)).status, 0);
  const auto test = run("test tiny.yaml w");
  EXPECT_EQ(test.status, 1);
  EXPECT_THAT(test.output, HasSubstr("error: cannot read w: it is a folder, not a checkpoint; its "
                                     "newest checkpoint is w/iter_2.pth"));
  const auto pointer = run("test tiny.yaml w/last_checkpoint");
  EXPECT_THAT(pointer.output, HasSubstr("error: cannot read w/last_checkpoint: it is a text that "
                                        "names a checkpoint, w/iter_2.pth"));
  const auto resumed = run("train tiny.yaml --work-dir v --resume w" + short_run(3));
  EXPECT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("resumed from w/iter_2.pth"));
  EXPECT_TRUE(fs::exists(dir_ / "v/iter_3.pth"));
  fs::create_directory(dir_ / "none");
  const auto nothing = run("train tiny.yaml --work-dir u --resume none");
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.output,
              HasSubstr("--resume: error: there is no checkpoint in the folder none"));
}

TEST_F(Reports, TheConfigurationIsNotTakenForTheValueOfResume) {
  const auto result = run("train --resume tiny.yaml --work-dir w");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("'tiny.yaml' is a configuration, not a checkpoint: write it "
                                       "before --resume"));
}

TEST_F(Reports, MissingMasksEndATestBeforeItsFirstImage) {
  ASSERT_EQ(run("train pairs.yaml --work-dir w" + short_run(1)).status, 0);
  fs::remove(dir_ / "ann/03.png");
  const auto test = run("test pairs.yaml w/iter_1.pth --work-dir t");
  EXPECT_EQ(test.status, 1);
  EXPECT_THAT(test.output, HasSubstr("error: test: 1 of 4 annotations is missing: ann/03.png"));
  EXPECT_THAT(test.output, Not(HasSubstr("Iter(test)")));
  // Masks that nothing reads may be missing.
  dir_.write("only.yaml", R"(_base_: pairs.yaml
test_dataloader: {dataset: {pipeline: [{type: LoadImageFromFile}, {type: PackSegInputs}]}}
test_evaluator: {format_only: true, output_dir: ids}
)");
  const auto only = run("test only.yaml w/iter_1.pth --work-dir t");
  EXPECT_EQ(only.status, 0) << only.output;
  EXPECT_TRUE(fs::exists(dir_ / "ids/03.png"));
}

TEST_F(Reports, MasksThatAreIgnoredAltogetherAreWarned) {
  for (int i = 0; i < 4; ++i) {
    write_png(dir_ / text("ann/0", i, ".png"), cv::Mat(40, 40, CV_8UC1, cv::Scalar(255)));
  }
  const auto result = run("train pairs.yaml --work-dir w" + short_run(1));
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("WARNING - train: all pixels of the 4 annotations looked at "
                                       "are ignored: they teach and measure nothing"));
}

TEST_F(Reports, AWorkDirHoldsOneRunAtATime) {
  fs::create_directory(dir_ / "w");
  const int folder = open((dir_ / "w").c_str(), O_RDONLY);
  ASSERT_EQ(flock(folder, LOCK_EX), 0);
  const auto second = run("train tiny.yaml --work-dir w" + short_run(2));
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.output, HasSubstr("error: another training is writing to w: wait for its end, "
                                       "or give this one another --work-dir"));
  close(folder);
  EXPECT_EQ(run("train tiny.yaml --work-dir w" + short_run(2)).status, 0);
  const auto again = run("train tiny.yaml --work-dir w" + short_run(3));
  EXPECT_EQ(again.status, 0);
  EXPECT_THAT(again.output, HasSubstr("WARNING - w holds checkpoints of an earlier run up to "
                                      "iter_2.pth, which this one replaces step by step: --resume "
                                      "continues that run, another --work-dir keeps it"));
  EXPECT_THAT(run("train tiny.yaml --work-dir w --resume" + short_run(4)).output,
              Not(HasSubstr("earlier run")));
}

TEST_F(Reports, ProcessesThatDoNotMeetSayWhy) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  socklen_t size = sizeof address;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const std::string place = "RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" +
                            text(ntohs(address.sin_port));
  const auto taken = run("train tiny.yaml --work-dir w --launcher pytorch", place);
  close(listener);
  EXPECT_EQ(taken.status, 2);
  EXPECT_THAT(taken.output, HasSubstr(text("port ", ntohs(address.sin_port),
                                           ", by which the processes meet, is in use, perhaps by "
                                           "another run. Give a free one: torchrun --master-port, "
                                           "MASTER_PORT or env_cfg.dist_cfg.port")));
  const auto alone = run("train tiny.yaml --work-dir w" + short_run(1), place);
  EXPECT_EQ(alone.status, 0) << alone.output;
  EXPECT_THAT(alone.output,
              HasSubstr("WORLD_SIZE is 2 as under torchrun, but there is no --launcher "
                        "pytorch: this process runs alone"));
}

TEST_F(Reports, AWindowsPathInDoubleQuotesIsExplained) {
  const auto result = check("train_dataloader: {dataset: {data_root: \"C:\\data\"}}");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("not valid YAML: in double quotes '\\' begins an escape; write a path in "
                        "single quotes, or with '/'"));
}

}  // namespace
}  // namespace seg::test
