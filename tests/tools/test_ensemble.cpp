/// Probabilities that tests store, and tools/ensemble from base models to the table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <sstream>
#include <thread>

#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Ensemble : public ::testing::Test {
 protected:
  Ensemble() {
    setenv("OMP_NUM_THREADS", "1", 1);
    dir_.write("tiny.yaml", tiny_run_yaml());
  }
  std::string line(const std::string& command) const {
    const size_t name = command.find(' ');
    return "cd " + dir_.path().string() + " && exec " + program_path(command.substr(0, name)) +
           command.substr(name);
  }
  CommandResult run(const std::string& command) const { return run_command(line(command)); }
  std::string output(const std::string& command) const {
    const CommandResult result = run(command);
    EXPECT_EQ(result.status, 0) << command << "\n" << result.output;
    return result.output;
  }
  Value stored(const std::string& file) const { return read_checkpoint(dir_ / file); }

  /// Two members of four iterations and one meta model, on drawn shapes.
  void write_recipe() const {
    const std::string base =
        "_base_: tiny.yaml\ntrain_cfg: {max_iters: 4, val_interval: 4}\n"
        "param_scheduler: [{_delete_: true, type: PolyLR, end: 4, by_epoch: false}]\n"
        "custom_hooks: []\n";
    dir_.write("a.yaml", base + "randomness: {seed: 3}\n");
    dir_.write("b.yaml", base + "model: {decode_head: {channels: 12}}\n");
    const std::string load = "{type: LoadSoftPredictions, models: [unknown]}";
    dir_.write("m.yaml",
               base +
                   "model:\n"
                   "  data_preprocessor: {_delete_: true, type: SegDataPreProcessor, "
                   "size: [32, 32]}\n"
                   "  backbone: {_delete_: true, type: StackingNet, in_channels: 1, "
                   "base_channels: 8, num_blocks: 1, attention: se}\n"
                   "  decode_head: {_delete_: true, type: ClassifierHead, num_classes: 5, "
                   "loss_decode: {type: JaccardLoss}}\n"
                   "train_dataloader: {dataset: {pipeline: [" +
                   load +
                   ", {type: RandomCrop, crop_size: [32, 32]}, {type: PackSegInputs}]}}\n"
                   "val_dataloader: {dataset: {pipeline: [" +
                   load + ", {type: PackSegInputs}]}}\n" +
                   "test_dataloader: {dataset: {pipeline: [" + load +
                   ", {type: PackSegInputs}]}}\n");
    dir_.write("e.yaml",
               "members: {base: [a.yaml, b.yaml], parallel: 2}\n"
               "meta: {base: m.yaml}\n"
               "pictures: 2\n");
  }

  TempDir dir_;
};

TEST_F(Ensemble, TestsStoreProbabilitiesOfAnySplit) {
  output(
      "train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=4 train_cfg.val_interval=4");
  const std::string printed = output(
      "test tiny.yaml w/iter_4.pth --work-dir t --out t/ids --out-probs t/deep/test.safetensors");
  EXPECT_THAT(printed, HasSubstr("probabilities of 5 images are in t/deep/test.safetensors"));
  const Value test = stored("t/deep/test.safetensors");
  ASSERT_EQ(test.as_dict().size(), 5u);
  for (const auto& [name, value] : test.as_dict()) {
    const at::Tensor map = value.as_tensor();
    EXPECT_EQ(map.scalar_type(), torch::kHalf);
    EXPECT_EQ(map.sizes(), (std::vector<int64_t>{5, 32, 32}));
    EXPECT_TRUE(torch::allclose(map.to(torch::kFloat).sum(0), torch::ones({32, 32}), 0, 5e-3));
    const cv::Mat ids = read_labels(dir_ / ("t/ids/" + name.as_string() + ".png"));
    const auto chosen = torch::from_blob(ids.data, {32, 32}, torch::kByte).to(torch::kLong);
    // Halves may hide which of two equal values is larger.
    const auto of_chosen = map.to(torch::kFloat).gather(0, chosen.unsqueeze(0)).squeeze(0);
    EXPECT_TRUE(torch::equal(of_chosen, map.to(torch::kFloat).amax(0)));
  }
  // The training set, loaded as the test set is: whole images of another size, each once.
  output("test tiny.yaml w/iter_4.pth --work-dir t --split train --out-probs train.safetensors");
  const Value train = stored("train.safetensors");
  ASSERT_EQ(train.as_dict().size(), 10u);
  EXPECT_EQ(train.as_dict()[0].second.as_tensor().sizes(), (std::vector<int64_t>{5, 40, 40}));
  // Two processes write one file with the same maps.
  output("test tiny.yaml w/iter_4.pth --work-dir t --nproc 2 --out-probs two.safetensors");
  const Value two = stored("two.safetensors");
  ASSERT_EQ(two.as_dict().size(), 5u);
  for (const auto& [name, value] : test.as_dict()) {
    EXPECT_TRUE(torch::allclose(two.at(name.as_string()).as_tensor().to(torch::kFloat),
                                value.as_tensor().to(torch::kFloat), 0, 2e-3));
  }
  EXPECT_FALSE(fs::exists(dir_ / "two.safetensors.rank1"));
}

TEST_F(Ensemble, SplitsAreThoseOfTheConfig) {
  dir_.write("no_val.yaml",
             "_base_: tiny.yaml\nval_dataloader: null\nval_evaluator: null\nval_cfg: null\n");
  dir_.write(
      "repeated.yaml",
      "_base_: tiny.yaml\ntrain_dataloader:\n  dataset:\n    _delete_: true\n    type: "
      "RepeatDataset\n    times: 3\n    dataset: {type: SyntheticShapesDataset, num_samples: "
      "4, size: [24, 24], pipeline: [{type: PackSegInputs}]}\n");
  output(
      "train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=4 train_cfg.val_interval=4");
  const CommandResult wrong = run("test no_val.yaml w/iter_4.pth --split val");
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.output,
              HasSubstr("--split needs 'val_dataloader.dataset' in the configuration"));
  output("test repeated.yaml w/iter_4.pth --work-dir t --split train --out-probs r.safetensors");
  EXPECT_EQ(stored("r.safetensors").as_dict().size(), 4u);
}

TEST_F(Ensemble, GoesFromBaseModelsToATableOfAll) {
  write_recipe();
  EXPECT_EQ(output("ensemble e.yaml --dry-run"),
            text("01_a  ", dir_ / "a.yaml", "\n02_b  ", dir_ / "b.yaml", "\n01  ", dir_ / "m.yaml",
                 "\n3 runs\n"));
  EXPECT_FALSE(fs::exists(dir_ / "work_dirs"));
  output("ensemble e.yaml");
  const std::string table = dir_.read("work_dirs/e/table.csv");
  std::vector<std::string> models;
  std::istringstream rows(table);
  for (std::string row; std::getline(rows, row);) models.push_back(row.substr(0, row.find(',')));
  EXPECT_THAT(models, ElementsAre("model", "01_a", "02_b", "mean", "weighted_mean", "01"));
  EXPECT_THAT(table, StartsWith("model,stage,aAcc,mIoU,mAcc\n01_a,member,"));
  EXPECT_THAT(dir_.read("work_dirs/e/table.md"),
              StartsWith("| model | stage | aAcc | mIoU | mAcc |"
                         "\n| --- | ---: | ---: | ---: | ---: |\n"
                         "| 01_a | member | "));
  for (const char* split : {"train", "val", "test"}) {
    for (const char* member : {"01_a", "02_b"}) {
      EXPECT_TRUE(
          fs::exists(dir_ / text("work_dirs/e/predictions/", member, "/", split, ".safetensors")));
    }
  }
  // Both members have five classes.
  const std::string meta = dir_.read("work_dirs/e/meta/configs/01.yaml");
  EXPECT_THAT(meta, HasSubstr("in_channels: 10\n"));
  EXPECT_THAT(meta, HasSubstr(dir_ / "work_dirs/e/predictions/02_b/val.safetensors"));
  size_t pictures = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / "work_dirs/e/pictures")) {
    const cv::Mat picture = read_image(entry.path().string());
    // Seven panels of 32 pixels, four a row.
    EXPECT_EQ(picture.cols, 4 * 36 + 4);
    EXPECT_EQ(picture.rows, 2 * (32 + 24 + 4) + 4);
    ++pictures;
  }
  EXPECT_EQ(pictures, 2u);
  // Nothing is done again.
  const std::string again = output("ensemble e.yaml");
  EXPECT_THAT(again, Not(HasSubstr("testing")));
  EXPECT_THAT(again, HasSubstr("weighted_mean"));
}

TEST_F(Ensemble, GoesOnAfterAKill) {
  write_recipe();
  output("ensemble e.yaml --work-dir whole");
  // At each of these moments the newest file is there, and the recipe is killed.
  for (const char* moment :
       {"members/runs/01_a/last_checkpoint", "predictions/01_a/val.safetensors",
        "tests/01_a/test/metrics.json", "meta/runs/01/last_checkpoint", "configs/mean.yaml"}) {
    BackgroundTool killed({"/bin/sh", "-c", line("ensemble e.yaml --work-dir cut")},
                          dir_ / "killed.txt");
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!fs::exists(dir_ / (std::string("cut/") + moment)) && killed.running() &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    killed.send(SIGKILL);
    killed.wait();
  }
  output("ensemble e.yaml --work-dir cut");
  EXPECT_EQ(dir_.read("cut/table.csv"), dir_.read("whole/table.csv"));
  for (const char* file : {"01_a/train.safetensors", "02_b/test.safetensors"}) {
    EXPECT_EQ(first_difference(stored(std::string("cut/predictions/") + file),
                               stored(std::string("whole/predictions/") + file)),
              "");
  }
}

TEST_F(Ensemble, ReportsTheMistakesOfBothStagesBeforeAnythingIsTrained) {
  write_recipe();
  dir_.write("wrong.yaml", "members: {base: a.yaml}\nmeta: {base: b.yaml}\n");
  const CommandResult no_loader = run("ensemble wrong.yaml");
  EXPECT_EQ(no_loader.status, 1);
  EXPECT_THAT(no_loader.output, HasSubstr("its pipelines must begin with LoadSoftPredictions"));
  EXPECT_FALSE(fs::exists(dir_ / "work_dirs/wrong/members"));
  dir_.write("wrong.yaml", "members: {base: a.yaml}\nweights: [1, 2]\n");
  EXPECT_EQ(run("ensemble wrong.yaml").output, "error: weights: has 2 values for 1 member\n");
  dir_.write("wrong.yaml", "members: {base: a.yaml, paralel: 2}\nmetas: {base: m.yaml}\n");
  const CommandResult typo = run("ensemble wrong.yaml");
  EXPECT_EQ(typo.status, 1);
  EXPECT_THAT(typo.output,
              HasSubstr("wrong.yaml:2:1: error: there is no option 'metas'. Did you mean "
                        "'meta'?"));
}

TEST_F(Ensemble, TheShippedOnePassesTheCheckOfAllItsRuns) {
  const std::string printed =
      output("ensemble " + source_path("configs/ensemble/camvid.yaml") + " --dry-run");
  EXPECT_THAT(printed, HasSubstr("03_deeplabv3_resnet34_camvid  "));
  EXPECT_THAT(printed, HasSubstr("04_grouped_eca_camvid  "));
  EXPECT_THAT(printed, HasSubstr("\n7 runs\n"));
}

}  // namespace
}  // namespace seg::test
