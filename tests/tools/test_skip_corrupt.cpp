/// Runs over data of which some pictures are damaged and skipped (`skip_corrupt: true`).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "registry/text.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kCorruptReason =
    "is not a picture that can be read (JPEG, PNG, TIFF, BMP, WebP or Netpbm), or is damaged";

class SkipCorrupt : public ::testing::Test {
 protected:
  /// Five pictures that all sets are made of, and weights.
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    dir_->write("tiny.yaml", tiny_run_yaml());
    dir_->write("files.yaml", R"(_base_: tiny.yaml
val_dataloader: &val
  batch_size: 2
  dataset:
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: img, seg_map_path: ann}
    img_suffix: .png
    metainfo: {classes: [background, disc, square, triangle, ring]}
    skip_corrupt: true
    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]
test_dataloader: *val
train_cfg: {max_iters: 2, val_interval: 1}
tta_model: {type: SegTTAModel}
tta_pipeline: [{type: LoadImageFromFile}, )" +
                                  tiny_flips_yaml() + "]\n");
    write_tiny_dataset(*dir_, 5, 5, 40, 40);
    dir_->write("good.txt", "00\n03\n04\n");
    trained_ = run("train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=1");
    // Whole batches of two and one of a batch are corrupt: pictures, and an annotation.
    dir_->write("img/01.png", "no picture");
    dir_->write("ann/02.png", "");
  }
  static void TearDownTestSuite() { delete dir_; }
  void SetUp() override { ASSERT_EQ(trained_.status, 0) << trained_.output; }

  static CommandResult run(const std::string& line) { return run_program_line(*dir_, line); }
  /// Metrics of a test without its times.
  static nlohmann::json metrics(const std::string& work_dir) {
    for (const auto& entry : fs::directory_iterator(*dir_ / work_dir)) {
      const std::string time = entry.path().filename().string();
      const std::string json = work_dir + "/" + time + "/" + time + ".json";
      if (!fs::exists(*dir_ / json)) continue;
      auto all = nlohmann::json::parse(dir_->read(json));
      all.erase("time");
      all.erase("data_time");
      return all;
    }
    return {};
  }
  static std::set<std::string> files_in(const std::string& folder) {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(*dir_ / folder)) {
      out.insert(entry.path().filename().string());
    }
    return out;
  }

  static TempDir* dir_;
  static CommandResult trained_;
};
TempDir* SkipCorrupt::dir_ = nullptr;
CommandResult SkipCorrupt::trained_{};

TEST_F(SkipCorrupt, ATestLeavesThemOutOfMetricsAndPictures) {
  for (const int batch : {1, 2, 5}) {
    SCOPED_TRACE(batch);
    const std::string place = text("t", batch);
    const std::string size = text(" --cfg-options test_dataloader.batch_size=", batch);
    const CommandResult good = run("test files.yaml w/iter_1.pth --work-dir " + place + "g" + size +
                                   " test_dataloader.dataset.ann_file=good.txt");
    ASSERT_EQ(good.status, 0) << good.output;
    const CommandResult all = run("test files.yaml w/iter_1.pth --work-dir " + place + " --out " +
                                  place + "/ids --show-dir " + place + "/shown" + size);
    ASSERT_EQ(all.status, 0) << all.output;
    EXPECT_THAT(all.output,
                HasSubstr("sample 1 is skipped: img/01.png: " + kCorruptReason + " (1 skipped"));
    EXPECT_THAT(all.output, HasSubstr("sample 2 is skipped: ann/02.png: is empty"));
    EXPECT_THAT(all.output, HasSubstr("test: corrupt samples left out of the metrics: 2 of 5"));
    EXPECT_EQ(metrics(place), metrics(place + "g"));
    EXPECT_TRUE(metrics(place).contains("mIoU"));
    EXPECT_THAT(files_in(place + "/ids"), ElementsAre("00.png", "03.png", "04.png"));
    EXPECT_THAT(files_in(place + "/shown"),
                ElementsAre("00.png", "03.png", "04.png", "index.html"));
    EXPECT_THAT(good.output, Not(HasSubstr("left out")));
  }
}

TEST_F(SkipCorrupt, SoDoesATestWithAugmentations) {
  const CommandResult good =
      run("test files.yaml w/iter_1.pth --tta --work-dir ag "
          "--cfg-options test_dataloader.dataset.ann_file=good.txt");
  ASSERT_EQ(good.status, 0) << good.output;
  const CommandResult all = run("test files.yaml w/iter_1.pth --tta --work-dir a");
  ASSERT_EQ(all.status, 0) << all.output;
  EXPECT_EQ(metrics("a"), metrics("ag"));
}

/// Each process sees only some of them.
TEST_F(SkipCorrupt, SoDoProcessesTogether) {
  const std::string root = dir_->path().string();
  const std::string test = "test " + *dir_ / "files.yaml" + " " + *dir_ / "w/iter_1.pth" +
                           " --cfg-options test_dataloader.dataset.data_root=" + root +
                           " test_dataloader.batch_size=1 --work-dir ";
  const auto both = run_ranks(2, test + *dir_ / "p2");
  ASSERT_EQ(both[0].status, 0) << both[0].output;
  ASSERT_EQ(both[1].status, 0) << both[1].output;
  EXPECT_THAT(both[0].output, HasSubstr("test: corrupt samples left out of the metrics: 2 of 5"));
  EXPECT_THAT(both[1].output, HasSubstr("sample 1 is skipped: "));
  EXPECT_THAT(both[1].output, Not(HasSubstr("left out of the metrics")));
  const CommandResult alone = run("test files.yaml w/iter_1.pth --work-dir p1");
  ASSERT_EQ(alone.status, 0) << alone.output;
  EXPECT_EQ(metrics("p2"), metrics("p1"));
}

TEST_F(SkipCorrupt, AndTheValidationsOfATraining) {
  const CommandResult result = run("train files.yaml --work-dir v");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("val: corrupt samples left out of the metrics: 2 of 5"));
  EXPECT_THAT(result.output, HasSubstr("Iter(val) [3/3]"));
}

TEST_F(SkipCorrupt, ATrainingReportsHowManyItReplaced) {
  dir_->write("train.yaml", R"(_base_: tiny.yaml
train_dataloader:
  dataset:
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: img, seg_map_path: ann}
    img_suffix: .png
    metainfo: {classes: [background, disc, square, triangle, ring]}
    skip_corrupt: true
    pipeline:
    - {type: LoadImageFromFile}
    - {type: LoadAnnotations}
    - {type: RandomCrop, crop_size: [32, 32]}
    - {type: PackSegInputs}
train_cfg: {max_iters: 8, val_interval: 99}
)");
  const CommandResult result = run("train train.yaml --work-dir r");
  ASSERT_EQ(result.status, 0) << result.output;
  const std::string notice = "train: corrupt samples replaced: 2 of 5";
  EXPECT_THAT(result.output, HasSubstr(notice));
  // Once, and not again at the end of each further pass over the data.
  EXPECT_EQ(result.output.find(notice), result.output.rfind(notice));
}

TEST_F(SkipCorrupt, AnEvaluationOfNothingIsAnError) {
  dir_->write("bad.txt", "01\n02\n");
  const CommandResult result =
      run("test files.yaml w/iter_1.pth --work-dir n "
          "--cfg-options test_dataloader.dataset.ann_file=bad.txt");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("error: test: none of the 2 samples can be used"));
}

TEST_F(SkipCorrupt, AugmentationsWithoutTtaAreAnError) {
  dir_->write("augmented.yaml",
              "_base_: files.yaml\ntest_dataloader: {dataset: {ann_file: good.txt, pipeline: "
              "[{type: LoadImageFromFile}, " +
                  tiny_flips_yaml() + "]}}\n");
  const CommandResult result = run("test augmented.yaml w/iter_1.pth --work-dir p");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("error: img/00.png: the pipeline makes several augmentations of an image "
                        "(TestTimeAug), which only a test with --tta or PrepareTTAHook joins"));
}

}  // namespace
}  // namespace seg::test
