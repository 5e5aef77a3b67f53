/// Weights whose names have words of wrappers in front, and advice for names that do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WrappedWeights : public ::testing::Test {
 protected:
  /// One training for all tests of this file.
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    dir_->write("tiny.yaml", tiny_run_yaml());
    trained_ = run("train",
                   "tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=6 "
                   "train_cfg.val_interval=6 default_hooks.checkpoint.interval=2 "
                   "default_hooks.checkpoint.filename_tmpl=snap-{}.pth custom_hooks=[]");
  }
  static void TearDownTestSuite() { delete dir_; }
  void SetUp() override { ASSERT_EQ(trained_.status, 0) << trained_.output; }

  static CommandResult run(const std::string& tool, const std::string& arguments) {
    return run_command("cd " + dir_->path().string() + " && OMP_NUM_THREADS=1 " +
                       program_path(tool) + " " + arguments);
  }
  /// The weights of the training with something in front of their names.
  static void write_prefixed(const std::string& name, const std::string& prefix) {
    const Value whole = read_checkpoint(*dir_ / "w/snap-6.pth");
    Value state = Value::dict();
    for (const auto& [key, tensor] : whole.at("state_dict").as_dict()) {
      state.set(prefix + key.as_string(), tensor);
    }
    Value out = Value::dict();
    out.set("epoch", 3);
    out.set("state_dict", state);
    write_checkpoint(*dir_ / name, out);
  }

  static TempDir* dir_;
  static CommandResult trained_;
};
TempDir* WrappedWeights::dir_ = nullptr;
CommandResult WrappedWeights::trained_{};

TEST_F(WrappedWeights, FitEveryProgram) {
  write_prefixed("lightning.ckpt", "model._orig_mod.");
  const char* removed = "lightning.ckpt: '_orig_mod.model.' is removed from 64 names";
  write_png(*dir_ / "in.png", tiny_image(32, 32, 1));
  dir_->write("backbone.yaml",
              "_base_: tiny.yaml\nmodel: {backbone: {init_cfg: {type: Pretrained, checkpoint: "
              "lightning.ckpt}}}\n");
  const std::pair<const char*, const char*> table[] = {
      {"test", "tiny.yaml lightning.ckpt --work-dir t"},
      {"predict", "tiny.yaml lightning.ckpt in.png --out p"},
      {"train",
       "tiny.yaml --work-dir a --cfg-options train_cfg.max_iters=1 "
       "load_from=lightning.ckpt"},
      {"train", "backbone.yaml --work-dir b --cfg-options train_cfg.max_iters=1"},
      {"convert", "lightning.ckpt plain.safetensors"},
      {"convert", "lightning.ckpt checked.pth --check tiny.yaml"},
  };
  for (const auto& [tool, arguments] : table) {
    const CommandResult result = run(tool, arguments);
    EXPECT_EQ(result.status, 0) << tool << '\n' << result.output;
    EXPECT_THAT(result.output, HasSubstr(removed)) << tool;
    EXPECT_THAT(result.output, Not(HasSubstr("unexpected key"))) << tool;
  }
  const Value plain = read_checkpoint(*dir_ / "plain.safetensors");
  EXPECT_TRUE(plain.find("decode_head.conv_seg.weight"));
  const Value checked = read_checkpoint(*dir_ / "checked.pth");
  EXPECT_EQ(checked.at("epoch").as_int(), 3);
  EXPECT_TRUE(checked.at("state_dict").find("decode_head.conv_seg.weight"));
}

TEST_F(WrappedWeights, AdviceWorksAsWritten) {
  write_prefixed("net work.pth", "net.");
  const std::string command =
      "tools/convert 'net work.pth' 'net work-renamed.pth' --rename '^net\\.' ''";
  for (const std::string& arguments :
       {std::string("test"), std::string("predict"), std::string("train")}) {
    const std::string rest = arguments == "test" ? "tiny.yaml 'net work.pth' --work-dir t"
                             : arguments == "predict"
                                 ? "tiny.yaml 'net work.pth' . --out p"
                                 : "tiny.yaml --work-dir c --cfg-options load_from='net work.pth'";
    const CommandResult refused = run(arguments, rest);
    EXPECT_EQ(refused.status, 3) << arguments;
    EXPECT_THAT(refused.output, HasSubstr(". After " + command + " 64 fit")) << arguments;
  }
  const CommandResult renamed = run("convert", command.substr(command.find(' ')));
  ASSERT_EQ(renamed.status, 0) << renamed.output;
  const CommandResult tested = run("test", "tiny.yaml 'net work-renamed.pth' --work-dir t");
  EXPECT_EQ(tested.status, 0) << tested.output;

  dir_->write("net.yaml",
              "_base_: tiny.yaml\nmodel: {backbone: {init_cfg: {type: Pretrained, checkpoint: "
              "'net work.pth'}}}\n");
  const CommandResult pretrained = run("train", "net.yaml --work-dir d");
  EXPECT_EQ(pretrained.status, 3);
  EXPECT_THAT(pretrained.output, HasSubstr(". With prefix: 'net.backbone.' "));
  const CommandResult mapped = run("train",
                                   "net.yaml --work-dir d --cfg-options train_cfg.max_iters=1 "
                                   "model.backbone.init_cfg.prefix=net.backbone.");
  EXPECT_EQ(mapped.status, 0) << mapped.output;
}

TEST_F(WrappedWeights, AWrongPatternOfConvertIsTold) {
  const CommandResult wrong = run("convert", "w/snap-6.pth a.pth --rename '(a' b");
  EXPECT_NE(wrong.status, 0);
  EXPECT_THAT(wrong.output, HasSubstr("--rename: '(a' is no regular expression"));
}

TEST_F(WrappedWeights, ResumingFindsNamesOfOnesOwnWithoutTheNewest) {
  std::filesystem::copy(*dir_ / "w", *dir_ / "r", std::filesystem::copy_options::recursive);
  std::filesystem::remove(*dir_ / "r/snap-6.pth");
  dir_->write("r/last_checkpoint", *dir_ / "r/snap-6.pth");
  // Published weights are none of the run's checkpoints.
  Value published = Value::dict(), meta = Value::dict();
  meta.set("iter", 9);
  published.set("meta", meta);
  published.set("state_dict", read_checkpoint(*dir_ / "w/snap-6.pth").at("state_dict"));
  write_checkpoint(*dir_ / "r/published.pth", published);
  const std::string options =
      " --work-dir r --resume --cfg-options train_cfg.max_iters=6 train_cfg.val_interval=6 "
      "custom_hooks=[]";
  const CommandResult resumed = run("train", "tiny.yaml" + options);
  EXPECT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("r/snap-4.pth"));
  EXPECT_THAT(resumed.output, HasSubstr("snap-6.pth, which does not exist: using the newest "
                                        "checkpoint beside it"));
}

TEST_F(WrappedWeights, ConvertKeepsWhatItCan) {
  Value texts = Value::dict();
  texts.set("format", "pt");
  texts.set("licence", "free");
  Value state = Value::dict();
  state.set("backbone.a", torch::ones({2}));
  state.set(kSafetensorsMetadata, texts);
  write_safetensors(*dir_ / "m.safetensors", state);
  EXPECT_EQ(run("convert", "m.safetensors n.safetensors").output,
            "n.safetensors: 1 tensors, 0.0 MB\n");
  EXPECT_EQ(
      read_checkpoint(*dir_ / "n.safetensors").at(kSafetensorsMetadata).at("licence").as_string(),
      "free");
  EXPECT_EQ(run("convert", "m.safetensors m.pth").output, "m.pth: 1 tensors, 0.0 MB\n");
  const Value pth = read_checkpoint(*dir_ / "m.pth");
  EXPECT_EQ(pth.at("meta").at("licence").as_string(), "free");
  EXPECT_TRUE(pth.at("state_dict").find("backbone.a"));
  EXPECT_EQ(run("convert", "m.pth back.safetensors").output,
            "back.safetensors: 1 tensors, 0.0 MB\n");
  EXPECT_EQ(read_checkpoint(*dir_ / "back.safetensors")
                .at(kSafetensorsMetadata)
                .at("licence")
                .as_string(),
            "free");

  Value whole = Value::dict();
  whole.set("labels", Value::list_of_kind({1, 2}, ListKind::kSet));
  whole.set("last", Value::list_of_kind({0.5}, ListKind::kDeque, 3));
  write_checkpoint(*dir_ / "set.pth", whole);
  EXPECT_EQ(run("convert", "set.pth set2.pth").output, "set2.pth: no weights\n");
  EXPECT_EQ(read_checkpoint(*dir_ / "set2.pth").at("labels").kind_text(), "a set");
  const CommandResult none = run("convert", "set.pth set.safetensors");
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.output, HasSubstr("error: set.pth: there are no weights in it: it holds "
                                     "'labels' (a set), 'last' (a deque)"));
}

TEST(ShapesOfPrograms, AreThoseAskedFor) {
  const std::string config = source_path("configs/segformer/b0_camvid.yaml");
  const CommandResult inspected =
      run_command(program_path("inspect") + " " + config + " --shape 1 1");
  EXPECT_EQ(inspected.status, 1);
  EXPECT_THAT(inspected.output,
              HasSubstr("error: images of 1x1 are too small for this MixVisionTransformer: the map "
                        "of stage 0 is 1x1 and must be at least 8x8. Enlarge them, or pad them by "
                        "size or test_cfg of the data preprocessor"));
  const TempDir dir;
  const std::string tiny = dir.write("tiny.yaml", tiny_run_yaml());
  const std::string benchmark = "OMP_NUM_THREADS=1 " + program_path("benchmark") + " " + tiny +
                                " --what step --iters 1 --warmup 0 --batch-size 1";
  EXPECT_THAT(run_command(benchmark + " --shape 16 24").output, HasSubstr("\"shape\":[16,24]"));
  EXPECT_THAT(run_command(benchmark).output, HasSubstr("\"shape\":[32,32]"));
  // What pads the images shows.
  EXPECT_THAT(run_command(benchmark + " --shape 30 30 --cfg-options "
                                      "model.data_preprocessor.size=None "
                                      "model.data_preprocessor.size_divisor=32")
                  .output,
              HasSubstr("\"shape\":[32,32]"));
}

TEST(ParityOfTheTree, IsItsOwnByDefault) {
  const TempDir dir;
  const CommandResult result = run_command("cd " + dir.path().string() + " && OMP_NUM_THREADS=1 " +
                                           program_path("parity") + " --filter stdc1");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr(" mmseg/stdc1\n"));
}

}  // namespace
}  // namespace seg::test
