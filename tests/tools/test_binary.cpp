/// The template for two classes, trained on pictures of one bright disc each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class BinaryTemplate : public ::testing::Test {
 protected:
  BinaryTemplate() { draw(1); }
  /// \param foreground  its value in the masks.
  void draw(int foreground) const {
    for (int i = 0; i < 8; ++i) {
      const std::string split = i < 6 ? "train/" : "val/", name = text(i, ".png");
      const cv::Point centre(16 + 5 * i, 40 - 3 * i);
      cv::Mat image(64, 64, CV_8UC3, cv::Scalar(40, 60, 50)), mask(64, 64, CV_8UC1, cv::Scalar(0));
      cv::circle(image, centre, 11, cv::Scalar(230, 200, 210), cv::FILLED);
      cv::circle(mask, centre, 11, cv::Scalar(foreground), cv::FILLED);
      write_png(dir_ / ("images/" + split + name), image);
      write_png(dir_ / ("masks/" + split + name), mask);
    }
  }
  /// The template on these pictures, small and quick.
  std::string config(const std::string& head, const std::string& dataset) const {
    return dir_.write("a.yaml",
                      "_base_: " + source_path("configs/binary.yaml") +
                          "\n"
                          "model:\n"
                          "  data_preprocessor: {size: [64, 64]}\n"
                          "  backbone: {embed_dims: 8, drop_path_rate: 0.0}\n"
                          "  decode_head: {channels: 16, dropout_ratio: 0.0" +
                          head +
                          "}\n"
                          "train_dataloader:\n"
                          "  num_workers: 1\n"
                          "  dataset:\n"
                          "    data_root: " +
                          dir_.path().string() +
                          "\n"
                          "    img_suffix: .png\n" +
                          dataset +
                          "    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, "
                          "{type: RandomFlip, prob: 0.5}, {type: PackSegInputs}]\n"
                          "val_dataloader: &val\n"
                          "  num_workers: 1\n"
                          "  dataset:\n"
                          "    data_root: " +
                          dir_.path().string() +
                          "\n"
                          "    img_suffix: .png\n" +
                          dataset +
                          "    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, "
                          "{type: PackSegInputs}]\n"
                          "test_dataloader: *val\n"
                          "optim_wrapper: {optimizer: {lr: 0.01}}\n"
                          "param_scheduler: null\n"
                          "train_cfg: {max_iters: 30, val_interval: 30}\n"
                          "randomness: {seed: 0, deterministic: true}\n"
                          "env_cfg: {device: cpu, cudnn_benchmark: false}\n");
  }
  /// The IoU of the foreground after training.
  double trained(const std::string& head, const std::string& dataset = "") const {
    const CommandResult result =
        run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 " +
                    program_path("train") + " " + config(head, dataset) + " --work-dir w");
    EXPECT_EQ(result.status, 0) << result.output;
    double iou = -1;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "w")) {
      if (entry.path().filename() != "scalars.json") continue;
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) {
        const auto row = nlohmann::json::parse(line);
        if (row.contains("IoU.foreground")) iou = row["IoU.foreground"];
      }
    }
    return iou;
  }
  TempDir dir_;
};

/// A disc covers a tenth of its picture: guessing gives an IoU of 9 at most.
TEST_F(BinaryTemplate, LearnsTheForeground) { EXPECT_GT(trained(""), 60); }

TEST_F(BinaryTemplate, LearnsItByDiceAlone) {
  EXPECT_GT(trained(", loss_decode: {_delete_: true, type: DiceLoss}"), 60);
}

TEST_F(BinaryTemplate, LearnsFromMasksOf0And255AsItSays) {
  draw(255);
  EXPECT_GT(trained("", "    label_map: {255: 1}\n"), 60);
}

TEST_F(BinaryTemplate, IsCheckedWithoutItsData) {
  const CommandResult result =
      run_command(program_path("print_config") + " --check " + source_path("configs/binary.yaml"));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.output, HasSubstr("all parts can be built"));
}

}  // namespace
}  // namespace seg::test
