/// What the smaller programs print when all is well; test_broken_input.cpp has their messages when
/// it is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "registry/text.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Programs : public ::testing::Test {
 protected:
  Programs() { dir_.write("tiny.yaml", tiny_run_yaml()); }

  /// Runs a program in the folder of the test.
  CommandResult run(const std::string& line) const {
    const size_t name = line.find(' ');
    const std::string rest = name == std::string::npos ? "" : line.substr(name);
    return run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 " +
                       program_path(line.substr(0, name)) + rest);
  }
  /// The output of a program that must end well.
  std::string output(const std::string& line) const {
    const CommandResult result = run(line);
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output;
    return result.output;
  }
  std::set<std::string> files_in(const std::string& folder) const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir_ / folder)) {
      out.insert(entry.path().filename().string());
    }
    return out;
  }
  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }

  TempDir dir_;
};

TEST_F(Programs, InspectListsModulesCostAndShapes) {
  const std::string listing = output("inspect tiny.yaml");
  EXPECT_THAT(listing, StartsWith("model  EncoderDecoder  "));
  EXPECT_THAT(listing, HasSubstr("\n  backbone  MixVisionTransformer  "));
  EXPECT_THAT(listing, HasSubstr("\n  decode_head  SegformerHead  "));
  EXPECT_THAT(listing, HasSubstr("\n    conv_seg  "));
  EXPECT_THAT(listing, HasSubstr("\ninput       1x3x32x32\n"
                                 "feature 0   1x8x8x8\n"
                                 "feature 1   1x16x4x4\n"
                                 "logits      1x5x32x32\n"
                                 "parameters  "));
  EXPECT_THAT(listing, HasSubstr("\nflops       "));
  const std::string shallow = output("inspect tiny.yaml --depth 0 --shape 64 48");
  EXPECT_THAT(shallow, Not(HasSubstr("backbone  MixVisionTransformer")));
  EXPECT_THAT(shallow, HasSubstr("logits      1x5x64x48\n"));
  // A smaller picture costs less.
  EXPECT_NE(shallow.substr(shallow.find("flops")), listing.substr(listing.find("flops")));
}

TEST_F(Programs, InspectWritesTheStateDictAsATable) {
  std::vector<std::string> expected;
  const auto model = load_run_config(dir_ / "tiny.yaml").model.build();
  const Value state = state_dict(*model);
  for (const auto& [name, value] : state.as_dict()) {
    const auto& tensor = value.as_tensor();
    expected.push_back(text(name.as_string(), '\t', join(tensor.sizes(), "x"), '\t',
                            tensor.scalar_type() == torch::kLong ? "int64" : "float32"));
  }
  const auto rows = lines_of(output("inspect tiny.yaml --state-dict"));
  EXPECT_EQ(rows, expected);
  EXPECT_THAT(rows, ::testing::Contains("decode_head.conv_seg.weight\t5x8x1x1\tfloat32"));
  const std::regex row("[\\w.]+\t([0-9]+x)*[0-9]*\t(float32|int64)");
  for (const auto& line : rows) EXPECT_TRUE(std::regex_match(line, row)) << line;
}

/// The number of bands, wherever a model has it; the size, from a variable too.
TEST_F(Programs, InspectMakesAnImageThatFitsTheModel) {
  dir_.write("smp.yaml",
             "model: {type: Unet, encoder_name: vgg11, encoder_weights: null, encoder_depth: 3, "
             "decoder_channels: [16, 8, 4], in_channels: 4, classes: 5}\n"
             "crop_size: [32, 64]\n");
  EXPECT_THAT(output("inspect smp.yaml --depth 0"), HasSubstr("input       1x4x32x64\n"));
  dir_.write("one.yaml",
             "_base_: tiny.yaml\n"
             "model: {backbone: {in_channels: 6}, data_preprocessor: {size: null}}\n"
             "crop_size: 48\n");
  EXPECT_THAT(output("inspect one.yaml --depth 0"), HasSubstr("input       1x6x48x48\n"));
}

TEST_F(Programs, BrowseDatasetWritesPictures) {
  EXPECT_THAT(output("browse_dataset tiny.yaml --num 2 --out b --check"),
              HasSubstr("2 pictures of 2 of 10 samples are in b"));
  EXPECT_THAT(files_in("b"),
              ElementsAre("0000_shapes_0_0.png", "0005_shapes_0_5.png", "classes.png"));
  // Image, overlay and labels, each as the crop, with gaps between them.
  const cv::Mat picture = read_image(dir_ / "b/0000_shapes_0_0.png");
  EXPECT_EQ(picture.rows, 32);
  EXPECT_GE(picture.cols, 3 * 32);
  const cv::Mat last = picture(cv::Rect(picture.cols - 32, 0, 32, 32));
  // Labels are drawn in the colours of the classes, here in the order of OpenCV.
  const std::vector<cv::Vec3b> palette{
      {64, 64, 64}, {60, 60, 230}, {75, 180, 60}, {230, 110, 60}, {40, 190, 245}};
  for (int y = 0; y < last.rows; ++y) {
    for (int x = 0; x < last.cols; ++x) {
      const auto color = last.at<cv::Vec3b>(y, x);
      EXPECT_TRUE(color == cv::Vec3b(0, 0, 0) ||
                  std::find(palette.begin(), palette.end(), color) != palette.end())
          << color << " at " << y << ", " << x;
    }
  }
  // Another pass over the data is augmented otherwise; the same one in the same way.
  output("browse_dataset tiny.yaml --num 2 --out again");
  output("browse_dataset tiny.yaml --num 2 --out later --epoch 1");
  const std::string name = "/0005_shapes_0_5.png";
  EXPECT_EQ(dir_.read("b" + name), dir_.read("again" + name));
  EXPECT_NE(dir_.read("b" + name), dir_.read("later" + name));
  EXPECT_THAT(output("browse_dataset tiny.yaml --split val --num 3"),
              HasSubstr("3 pictures of 3 of 5 samples are in work_dirs/tiny/browse_val"));
  EXPECT_EQ(files_in("work_dirs/tiny/browse_val").size(), 4u);  // with the legend
}

TEST_F(Programs, AnalyzeLogsDrawsAndTabulates) {
  dir_.write("a/scalars.json",
             "{\"loss\": 3.0, \"iter\": 10, \"step\": 10}\n"
             "{\"loss\": 1.0, \"iter\": 20, \"step\": 20}\n"
             "{\"mIoU\": 25.5, \"step\": 20}\n");
  dir_.write("b/scalars.json",
             "{\"loss\": 2.0, \"iter\": 10, \"step\": 10}\n"
             "{\"loss\": 1.5, \"iter\": 20, \"step\": 20}\n");
  EXPECT_EQ(output("analyze_logs a/scalars.json b/scalars.json --out curves.png --csv t.csv"),
            "a  loss: last 1 (step 20), lowest 1 (step 20), highest 3 (step 10)\n"
            "b  loss: last 1.5 (step 20), lowest 1.5 (step 20), highest 2 (step 10)\n"
            "a  mIoU: last 25.5 (step 20), lowest 25.5 (step 20), highest 25.5 (step 20)\n"
            "b  mIoU: not recorded\n");
  EXPECT_EQ(dir_.read("t.csv"),
            "run,step,loss,mIoU\na,10,3.0,\na,20,1.0,25.5\nb,10,2.0,\nb,20,1.5,\n");
  const cv::Mat curves = read_image(dir_ / "curves.png");
  EXPECT_EQ(curves.size(), cv::Size(1000, 600));
  EXPECT_LT(cv::mean(curves)[0], 255.0);
  output(
      "analyze_logs a/scalars.json b/scalars.json --keys loss --legend one two --title Loss "
      "--size 400x300 --out named.png");
  EXPECT_EQ(read_image(dir_ / "named.png").size(), cv::Size(400, 300));
}

TEST_F(Programs, PrintConfigShowsTheConfiguration) {
  dir_.write("a.yaml", "_base_: tiny.yaml\ntrain_cfg: {max_iters: 7}\n");
  const std::string all = output("print_config a.yaml");
  EXPECT_THAT(all, HasSubstr("max_iters: 7\n"));
  EXPECT_EQ(dump_yaml(parse_config(all)), dump_yaml(load_config(dir_ / "a.yaml")));
  EXPECT_THAT(output("print_config a.yaml --origins"), HasSubstr("max_iters: 7  # a.yaml:2:24"));
  EXPECT_EQ(output("print_config a.yaml --explain train_cfg.max_iters"),
            "train_cfg.max_iters\n  tiny.yaml:70:50: 12\n  a.yaml:2:24: 7\n");
  EXPECT_EQ(output("print_config a.yaml --explain train_cfg --cfg-options train_cfg.max_iters=3"),
            "train_cfg\n"
            "  tiny.yaml:70:12, a.yaml, --cfg-options #1: {type: IterBasedTrainLoop, max_iters: 3, "
            "val_interval: 6}\n"
            "  train_cfg.type: IterBasedTrainLoop (tiny.yaml:70:19)\n"
            "  train_cfg.max_iters: 12 (tiny.yaml:70:50) -> 7 (a.yaml:2:24) -> 3 "
            "(--cfg-options #1)\n"
            "  train_cfg.val_interval: 6 (tiny.yaml:70:68)\n");
  EXPECT_THAT(output("print_config a.yaml --check"), EndsWith("a.yaml: all parts can be built\n"));
}

TEST_F(Programs, ListPrintsCategoriesTypesAndOptions) {
  const std::string categories = output("list");
  for (const char* name : {"backbone", "decode_head", "loss", "transform", "hook"}) {
    EXPECT_TRUE(std::regex_search(categories, std::regex(text("(^|\n)", name, " +[0-9]+\n"))))
        << name << "\n"
        << categories;
  }
  const std::string losses = output("list loss");
  EXPECT_TRUE(std::regex_search(losses, std::regex("(^|\n)DiceLoss +\\S")));
  EXPECT_EQ(output("list losses"), losses);
  const std::string type = output("list IterBasedTrainLoop");
  EXPECT_EQ(type,
            "IterBasedTrainLoop (training loop)\n"
            "  Trains for a number of iterations.\n"
            "  Source: MMEngine 0.10, IterBasedTrainLoop\n"
            "  File: runners/train/length.cpp\n"
            "\n"
            "  max_iters: int, at least 1 (required)\n"
            "      training steps in all\n"
            "  val_begin: int, at least 0 = 1\n"
            "      no validation before this step\n"
            "  val_interval: int, at least 1 = 1000\n"
            "      steps between validations\n"
            "  dynamic_intervals: list of 2 values of type int or null = null\n"
            "      [milestone, interval] pairs: from a milestone on, validate at that interval\n"
            "  by_epoch: any = null\n"
            "      given by the type\n");
  EXPECT_EQ(output("list 'training loop' IterBasedTrainLoop"), type);
  const std::string markdown = output("list IterBasedTrainLoop --markdown");
  EXPECT_THAT(markdown, HasSubstr("| `max_iters` | int, at least 1 | **required** | training steps "
                                  "in all |\n"));
}

TEST_F(Programs, SchemaIsThatOfConfigurations) {
  const auto schema = nlohmann::json::parse(output("schema"));
  for (const auto& key : run_config_keys()) EXPECT_TRUE(schema["properties"].contains(key)) << key;
  EXPECT_EQ(output("schema --out schema.json"), "");
  EXPECT_EQ(nlohmann::json::parse(dir_.read("schema.json")), schema);
}

TEST_F(Programs, CheckReferenceComparesAModelWithItsNumbers) {
  // A model without ReLU: in single precision a value next to zero may fall on its other side, and
  // gradients jump.
  const std::string fixture = source_path("tests/data/reference/mmseg/segmenter_vit-t_mask.json");
  const std::regex all_hold("all [0-9]+ quantities hold\n$");
  EXPECT_TRUE(std::regex_search(output("check_reference " + fixture + " --single"), all_hold));

  auto json = nlohmann::json::parse(std::ifstream(fixture));
  dir_.write("model.json", nlohmann::json{{"model", json["model"]}}.dump());
  EXPECT_TRUE(
      std::regex_search(output("check_reference " + fixture + " model.json --single"), all_hold));
  const CommandResult heavier =
      run("check_reference " + fixture +
          " model.json --single --cfg-options model.decode_head.loss_decode.loss_weight=2");
  EXPECT_EQ(heavier.status, 1);
  EXPECT_TRUE(
      std::regex_search(heavier.output, std::regex("[0-9]+ of [0-9]+ quantities do not hold\n$")))
      << heavier.output;

  json["losses"]["decode.loss_ce"] = json["losses"]["decode.loss_ce"].get<double>() * 1.5;
  const std::string changed = dir_.write("changed.json", json.dump());
  const CommandResult result = run("check_reference " + changed);
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(
      std::regex_search(result.output, std::regex("\n1 of [0-9]+ quantities do not hold\n$")))
      << result.output;
}

}  // namespace
}  // namespace seg::test
