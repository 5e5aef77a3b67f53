/// Which files of weights a run reads, and its messages about those that do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WeightsOfRuns : public ::testing::Test {
 protected:
  WeightsOfRuns() {
    setenv("OMP_NUM_THREADS", "1", 1);
    plain_ = dir_.write("plain.yaml", tiny_run_yaml());
    std::string yaml = tiny_run_yaml();
    const std::string place = "    drop_path_rate: 0.3\n";
    yaml.insert(yaml.find(place) + place.size(),
                "    init_cfg: {type: Pretrained, checkpoint: " + dir_ / "pretrained.pth" + "}\n");
    pretrained_ = dir_.write("pretrained.yaml", yaml);
  }
  CommandResult train(const std::string& config, const std::string& work_dir,
                      const std::string& options = "", const std::string& words = "") const {
    return run_command(program_path("train") + " " + config + " --work-dir " + dir_ / work_dir +
                       " " + words + " --cfg-options train_cfg.max_iters=2 " + options);
  }
  CommandResult test(const std::string& config, const std::string& checkpoint,
                     const std::string& options = "") const {
    return run_command(program_path("test") + " " + config + " " + checkpoint + " --work-dir " +
                       dir_ / "t" + " --cfg-options randomness.seed=1 " + options);
  }

  TempDir dir_;
  std::string plain_, pretrained_;
};

TEST_F(WeightsOfRuns, OnlyAFreshTrainingReadsPretrainedFiles) {
  const auto refused = train(pretrained_, "a");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.output,
              HasSubstr("pretrained.yaml:24:15: model.backbone.init_cfg: cannot read " +
                        dir_ / "pretrained.pth" + ": "));

  const auto trained = train(plain_, "b");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const std::string last = dir_ / "b/iter_2.pth";
  const auto tested = test(pretrained_, last);
  EXPECT_EQ(tested.status, 0) << tested.output;
  const auto resumed = train(pretrained_, "c", "", "--resume " + last);
  EXPECT_EQ(resumed.status, 0) << resumed.output;
  const auto checked = run_command(program_path("print_config") + " --check " + pretrained_);
  EXPECT_EQ(checked.status, 0) << checked.output;

  // Fine-tuning from weights of the whole model needs no others.
  const auto tuned = train(pretrained_, "d", "load_from=" + last);
  EXPECT_EQ(tuned.status, 0) << tuned.output;
  EXPECT_THAT(tuned.output, HasSubstr("EncoderDecoder: "));
  EXPECT_THAT(tuned.output, HasSubstr("no file is read, since load_from sets all weights of "
                                      "MixVisionTransformer"));

  const Value state = find_state_dict(read_checkpoint(last));
  Value backbone = Value::dict();
  for (const auto& [key, tensor] : state.as_dict()) {
    if (key.as_string().starts_with("backbone.")) {
      backbone.set("net." + key.as_string().substr(9), tensor);
    }
  }
  write_checkpoint(dir_ / "pretrained.pth", backbone);
  const auto renamed = train(pretrained_, "e", "model.backbone.init_cfg.prefix=net.");
  EXPECT_EQ(renamed.status, 0) << renamed.output;
  EXPECT_THAT(renamed.output, HasSubstr("weights are loaded from " + dir_ / "pretrained.pth"));
}

TEST_F(WeightsOfRuns, WhatDoesNotFitHasAnExitCodeOfItsOwn) {
  ASSERT_EQ(train(plain_, "a").status, 0);
  const std::string last = dir_ / "a/iter_2.pth";
  const std::string other = "model.decode_head.num_classes=6";
  const auto tested = test(plain_, last, other);
  EXPECT_EQ(tested.status, 3);
  EXPECT_THAT(tested.output,
              HasSubstr(last + ": the weights do not fit the model\n"
                               "size mismatch for decode_head.conv_seg.weight: the checkpoint has "
                               "[5, 8, 1, 1], the model [6, 8, 1, 1]\n"
                               "size mismatch for decode_head.conv_seg.bias: the checkpoint has "
                               "[5], the model [6]"));
  // A training may begin with all but the classifier.
  const auto tuned = train(plain_, "b", other + " load_from=" + last);
  EXPECT_EQ(tuned.status, 0) << tuned.output;
  EXPECT_THAT(tuned.output, HasSubstr("size mismatch for decode_head.conv_seg.weight"));

  Value foreign = Value::dict();
  foreign.set("encoder.patch.weight", torch::zeros({3, 3}));
  write_checkpoint(dir_ / "foreign.pth", foreign);
  const auto none = train(plain_, "c", "load_from=" + dir_ / "foreign.pth");
  EXPECT_EQ(none.status, 3);
  EXPECT_THAT(none.output, HasSubstr("none of the 1 weights fits the model"));
  const auto absent = train(plain_, "d", "load_from=https://example.org/w-12345678.pth");
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.output, HasSubstr("w-12345678.pth"));
}

}  // namespace
}  // namespace seg::test
