/// What is found wrong before a run begins, with nothing read or written.
#include "runners/start/parts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runners/start/parts.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// Types that are found wrong only when they are built.
struct RefusedParams {
  static Schema<RefusedParams> schema() { return Schema<RefusedParams>("Cannot be built."); }
};

class RefusedMetric final : public Metric {
 public:
  using Params = RefusedParams;
  static Schema<Params> schema() { return Params::schema(); }
  RefusedMetric(const Params&, const DatasetMeta& meta) {
    throw OptionError("type", text("no metric of ", meta.classes.size(), " classes"));
  }
  void process(const Prediction&, const PackedSample&) override {}
  MetricResult compute(Communicator&) override { return {}; }
};
SEG_REGISTER(Metric, RefusedMetric);

class RefusedBackend final : public VisBackend {
 public:
  using Params = RefusedParams;
  static Schema<Params> schema() { return Params::schema(); }
  RefusedBackend(const Params&, const VisPlace&) { throw OptionError("type", "no back end"); }
  void add_scalars(const Scalars&, int64_t) override {}
};
SEG_REGISTER(VisBackend, RefusedBackend);

class RefusedHook final : public Hook {
 public:
  using Params = HookParams;
  static Schema<Params> schema() { return HookParams::schema(); }
  explicit RefusedHook(const Params& params) : Hook(params, Priority::kNormal) {
    throw OptionError("type", "no hook");
  }
};
SEG_REGISTER(Hook, RefusedHook);

class RunPartsTest : public ::testing::Test {
 protected:
  /// The messages of `print_config --check` for the tiny run with these changes.
  std::string checked(const std::string& changes) const {
    dir_.write("tiny.yaml", tiny_run_yaml());
    const std::string path = dir_.write("a.yaml", "_base_: tiny.yaml\n" + changes);
    return config_error([&] { build_all(load_run_config(path)); });
  }
  /// The messages of a training before its first step.
  std::string trained(const std::string& changes) const {
    dir_.write("tiny.yaml", tiny_run_yaml());
    const std::string path = dir_.write("a.yaml", "_base_: tiny.yaml\n" + changes);
    return config_error([&] { build_parts(load_run_config(path), {.train = true}); });
  }
  TempDir dir_;
};

TEST_F(RunPartsTest, AGoodRunHasNoError) {
  EXPECT_EQ(checked(""), "no error");
  EXPECT_EQ(trained(""), "no error");
}

TEST_F(RunPartsTest, ErrorsOfAllPartsAreReportedAtOnce) {
  const std::string changes = R"(
model:
  decode_head:
    in_channels: [8, 32]
    loss_decode: {class_weight: [1.0, 2.0]}
  auxiliary_head: {type: FCNHead, in_channels: 9, in_index: 0, channels: 8, num_classes: 5}
train_dataloader:
  dataset:
    _delete_: true
    type: CamVidDataset
    lazy_init: true
    metainfo: {classes: [sky, rood]}
val_evaluator: {_delete_: true, type: RefusedMetric}
custom_hooks: [{type: RefusedHook}]
visualizer: {vis_backends: [{type: RefusedBackend}]}
)";
  for (const std::string& messages : {checked(changes), trained(changes)}) {
    EXPECT_THAT(messages,
                AllOf(HasSubstr("'rood' is no class of this data set. Did you mean 'road'?"),
                      HasSubstr("val_evaluator.type: no metric of 5 classes"),
                      HasSubstr("model.decode_head.in_channels: is [8, 32]"),
                      HasSubstr("model.decode_head.loss_decode.class_weight: has 2 values"),
                      HasSubstr("model.auxiliary_head.in_channels: is 9"), HasSubstr("no hook"),
                      HasSubstr("no back end"), HasSubstr("7 errors in the configuration")))
        << messages;
  }
  EXPECT_FALSE(std::filesystem::exists("work_dirs/a"));
}

TEST_F(RunPartsTest, ErrorsOfOptimizerAndDataAreReportedTogether) {
  const std::string changes = R"(
train_dataloader: {batch_size: 20, drop_last: true, sampler: {type: DefaultSampler}}
optim_wrapper: {paramwise_cfg: {num_layers: 3}}
)";
  EXPECT_THAT(trained(changes),
              AllOf(HasSubstr("train_dataloader: not one batch of 20 can be made of 10 samples"),
                    HasSubstr("num_layers, decay_rate, layer_decay_rate and decay_type need "),
                    HasSubstr("2 errors in the configuration")));
}

TEST_F(RunPartsTest, ErrorsInAPipelineAndInJoinedDataSetsAreReportedTogether) {
  const std::string messages = checked(R"(
train_dataloader:
  dataset:
    _delete_: true
    type: ConcatDataset
    datasets:
    - {type: CamVidDataset, metainfo: {classes: [rood]}}
    - type: CamVidDataset
      pipeline: [{type: PackSegInputs}, {type: RandomFlip, prob: 0.5}, {type: PackSegInputs}, {type: Pad, size: [8, 8]}]
)");
  EXPECT_THAT(messages, AllOf(HasSubstr("datasets.0.metainfo.classes: 'rood' is no class"),
                              HasSubstr("pipeline.1: RandomFlip cannot follow PackSegInputs"),
                              HasSubstr("pipeline.3: Pad cannot follow PackSegInputs"),
                              HasSubstr("3 errors in the configuration")))
      << messages;
}

TEST_F(RunPartsTest, TheCheckLooksForNoFiles) {
  const std::string somewhere =
      "{type: CamVidDataset, data_root: /nowhere, ann_file: list.txt, pipeline: [{type: "
      "LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]}";
  for (const std::string& dataset :
       {somewhere, "{type: RepeatDataset, times: 2, dataset: " + somewhere + "}",
        "{type: ConcatDataset, datasets: [" + somewhere + ", " + somewhere + "]}"}) {
    const std::string changes =
        "model: {decode_head: {num_classes: 11}}\nval_dataloader: null\nval_evaluator: null\n"
        "test_dataloader: null\ntest_evaluator: null\n"
        "train_dataloader: {dataset: {_delete_: true, " +
        dataset.substr(1) + "}\n";
    EXPECT_EQ(checked(changes), "no error") << changes;
    EXPECT_THAT(trained(changes), HasSubstr("there is no file '/nowhere/list.txt'"));
  }
}

TEST_F(RunPartsTest, AllClassCountsAreCompared) {
  EXPECT_EQ(checked("model: {decode_head: {num_classes: 3}}\n"),
            dir_ / "a.yaml" +
                ":2:36: error: model.decode_head.num_classes: 3 classes, but train_dataloader's "
                "data set has 5 (background, disc, square, triangle, ring)\n"
                "1 error in the configuration");
  const std::string camvid =
      "test_dataloader: {dataset: {_delete_: true, type: CamVidDataset, data_root: /nowhere}}\n";
  const std::string message =
      "model.decode_head.num_classes: 5 classes, but test_dataloader's data set has 11 (sky, "
      "building";
  EXPECT_THAT(checked(camvid), HasSubstr(message));
  // Mistakes in what a training does not use are reported with the others.
  EXPECT_THAT(trained(camvid), HasSubstr(message));
}

TEST_F(RunPartsTest, SchedulesOfEpochsEndWithTheirLoop) {
  const auto epochs = [](const std::string& schedule) {
    return "train_cfg: {_delete_: true, type: EpochBasedTrainLoop, max_epochs: 10}\n"
           "param_scheduler: [" +
           schedule + "]\n";
  };
  const std::string late = epochs("{type: PolyLR, begin: 5}");
  EXPECT_EQ(checked(late), "no error");
  EXPECT_EQ(trained(late), "no error");
  const std::string never = epochs("{type: PolyLR, begin: 10}");
  EXPECT_THAT(checked(never), HasSubstr("the schedule begins at step 10, the run ends at 10"));
  EXPECT_THAT(trained(never), HasSubstr("the schedule begins at step 10, the run ends at 10"));
  // Ten epochs of four batches: known where the data are looked for.
  const std::string steps = epochs("{type: PolyLR, by_epoch: false, begin: 50}");
  EXPECT_EQ(checked(steps), "no error");
  EXPECT_THAT(trained(steps), HasSubstr("the schedule begins at step 50, the run ends at 40"));
}

/// The random numbers of a run do not depend on what is built besides the model.
TEST_F(RunPartsTest, WeightsAreThoseOfTheSeedAlone) {
  dir_.write("tiny.yaml", tiny_run_yaml());
  const RunConfig config = load_run_config(dir_ / "tiny.yaml");
  const auto parts_of = [&](bool train) {
    torch::manual_seed(7);
    return build_parts(config, {.train = train, .test = !train}).model;
  };
  const auto a = parts_of(true), b = parts_of(false);
  torch::manual_seed(7);
  const auto alone = config.model.build();
  alone->init_weights();
  for (const auto& item : alone->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), a->named_parameters()[item.key()])) << item.key();
    EXPECT_TRUE(torch::equal(item.value(), b->named_parameters()[item.key()])) << item.key();
  }
}

}  // namespace
}  // namespace seg::test
