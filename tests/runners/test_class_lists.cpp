/// Classes that do not agree, keys of older versions and misspelt ones, in configs that are refused
/// or warned of before anything is built.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/start/class_lists.hpp"
#include "runners/start/parts.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ClassLists : public ::testing::Test {
 protected:
  ClassLists() {
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("pairs.yaml", pairs("[ground, red, green]"));
  }
  static std::string pairs(const std::string& classes) {
    return "_base_: tiny.yaml\n"
           "model: {decode_head: {num_classes: 3}}\n"
           "train_dataloader:\n"
           "  dataset: &set\n"
           "    _delete_: true\n"
           "    type: BaseSegDataset\n"
           "    data_prefix: {img_path: /nowhere/img, seg_map_path: /nowhere/ann}\n"
           "    metainfo: {classes: " +
           classes +
           "}\n"
           "    lazy_init: true\n"
           "    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: "
           "PackSegInputs}]\n"
           "val_dataloader: &val {dataset: *set}\n"
           "test_dataloader: *val\n";
  }
  std::string place(const std::string& position) const {
    return dir_ / "a.yaml" + ":" + position + ": ";
  }
  /// The errors of a config; with `warnings` these.
  std::string errors(const std::string& yaml) const {
    const std::string path = dir_.write("a.yaml", yaml);
    return config_error([&] { build_all(load_run_config(path)); });
  }
  std::string warnings(const std::string& yaml) const {
    const std::string path = dir_.write("a.yaml", yaml);
    Diagnostics problems;
    EXPECT_EQ(config_error([&] { read_run_config(load_config(path), path, problems); }),
              "no error");
    return problems.warnings_text();
  }
  TempDir dir_;
};

TEST_F(ClassLists, OneListForAllIsRight) { EXPECT_EQ(errors("_base_: pairs.yaml\n"), "no error"); }

TEST_F(ClassLists, AnotherOrderShowsBothListsAndTheLineThatMendsIt) {
  EXPECT_EQ(errors("_base_: pairs.yaml\n"
                   "val_dataloader: {dataset: {metainfo: {classes: [green, red, ground]}}}\n"),
            place("2:48") +
                "error: val_dataloader.dataset.metainfo.classes: has the classes of "
                "train_dataloader's data set in another order: [green, red, ground] instead of "
                "[ground, red, green]. Write metainfo: {classes: [ground, red, green]}\n"
                "1 error in the configuration");
}

TEST_F(ClassLists, OtherClassesAreAnErrorOfEachEvaluation) {
  const std::string found = errors(
      "_base_: pairs.yaml\n"
      "val_dataloader: {dataset: {metainfo: {classes: [ground, red, blue]}}}\n"
      "test_dataloader: {dataset: {metainfo: {classes: [ground, red]}}}\n");
  EXPECT_THAT(
      found,
      AllOf(
          HasSubstr(place("2:48") +
                    "error: val_dataloader.dataset.metainfo.classes: has other classes than "
                    "train_dataloader's data set: [ground, red, blue] instead of [ground, red, "
                    "green]. If the labels mean the same, write metainfo: {classes: [ground, red, "
                    "green]}\n"),
          HasSubstr(place("3:49") + "error: test_dataloader.dataset.metainfo.classes: has other "),
          HasSubstr("2 errors")));
}

TEST_F(ClassLists, DataSetsInsideOfWrappersAreComparedToo) {
  const std::string inner =
      "{type: BaseSegDataset, data_prefix: {img_path: /nowhere, seg_map_path: /nowhere}, "
      "metainfo: {classes: [red, ground, green]}, pipeline: [{type: LoadImageFromFile}, {type: "
      "LoadAnnotations}, {type: PackSegInputs}]}";
  EXPECT_THAT(errors("_base_: pairs.yaml\n"
                     "val_dataloader: {dataset: {_delete_: true, type: ConcatDataset, datasets: [" +
                     inner + "]}}\n"),
              HasSubstr("val_dataloader.dataset.datasets.0.metainfo.classes: has the classes of "
                        "train_dataloader's data set in another order: [red, ground, green]"));
}

/// Data sets that come with classes map labels by name, and the new ids must be those of training.
TEST_F(ClassLists, ClassesThatADataSetComesWithAreCompared) {
  const auto camvid = [](const std::string& key, const std::string& classes) {
    return key +
           ": {dataset: {_delete_: true, type: CamVidDataset, data_root: /nowhere, metainfo: "
           "{classes: " +
           classes +
           "}, pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: "
           "PackSegInputs}]}}\n";
  };
  const std::string head = "_base_: tiny.yaml\nmodel: {decode_head: {num_classes: 2}}\n";
  EXPECT_EQ(
      errors(head + camvid("train_dataloader", "[sky, road]") +
             camvid("val_dataloader", "[sky, road]") + camvid("test_dataloader", "[sky, road]")),
      "no error");
  EXPECT_THAT(
      errors(head + camvid("train_dataloader", "[sky, road]") +
             camvid("val_dataloader", "[sky, road]") + camvid("test_dataloader", "[road, sky]")),
      HasSubstr("in another order: [road, sky] instead of [sky, road]"));
}

TEST_F(ClassLists, MoreOutputsThanClassesAreWarnedOf) {
  Diagnostics problems;
  check_classes(load_run_config(dir_.write("a.yaml",
                                           "_base_: pairs.yaml\n"
                                           "model: {decode_head: {num_classes: 4}}\n")),
                /*trains=*/true, problems);
  EXPECT_EQ(problems.warnings_text(),
            place("2:36") +
                "warning: model.decode_head.num_classes: 4 classes, but train_dataloader's data "
                "set has only 3");
}

// As MMSegmentation's SAN on PASCAL VOC: weights of other data, tested without the background.
TEST_F(ClassLists, WhatOnlyTestsMayHaveOtherTrainingData) {
  const std::string yaml =
      "_base_: pairs.yaml\n"
      "model: {decode_head: {num_classes: 2}}\n"
      "val_dataloader: &val {dataset: {metainfo: {classes: [red, green]}}}\n"
      "test_dataloader: *val\n";
  EXPECT_EQ(errors(yaml), "no error");
  const RunConfig config = load_run_config(dir_.write("a.yaml", yaml));
  const std::string difference =
      "2 classes, but train_dataloader's data set has 3 (ground, red, green)";
  Diagnostics test, train;
  check_classes(config, /*trains=*/false, test);
  EXPECT_EQ(test.warnings_text(), place("2:36") + "warning: model.decode_head.num_classes: " +
                                      difference + ": it can be tested, but training would fail");
  check_classes(config, /*trains=*/true, train);
  EXPECT_THAT(train.text(), HasSubstr("error: model.decode_head.num_classes: " + difference));
}

TEST_F(ClassLists, OneClassForTwoNamesTheOptionsOfOneMap) {
  EXPECT_THAT(errors(pairs("[other, road]") + "crop_size: 1\n"), Not(HasSubstr("out_channels")));
  dir_.write("two.yaml", pairs("[other, road]"));
  EXPECT_THAT(errors("_base_: two.yaml\nmodel: {decode_head: {num_classes: 1}}\n"),
              HasSubstr("1 classes, but train_dataloader's data set has 2 (other, road). For one "
                        "map of logits write num_classes: 2 and out_channels: 1\n"));
}

TEST_F(ClassLists, TwoClassesOfOneNameAreAnError) {
  EXPECT_EQ(errors("_base_: tiny.yaml\ntrain_dataloader: {dataset: {_delete_: true, type: "
                   "BaseSegDataset, metainfo: {classes: [a, b, 'a ']}}}\n"),
            place("2:95") +
                "error: train_dataloader.dataset.metainfo.classes.2: 'a' is already the name of "
                "class 0. Give each class a name of its own\n"
                "1 error in the configuration");
  const std::string file = dir_.write("names.txt", "a\n\nb\nc\nb\n");
  EXPECT_THAT(
      errors("_base_: tiny.yaml\n"
             "train_dataloader: {dataset: {_delete_: true, type: BaseSegDataset, metainfo: "
             "{classes: " +
             file + "}}}\n"),
      AllOf(HasSubstr(place("2:88") + "error: train_dataloader.dataset.metainfo.classes: " + file +
                      ":5: 'b' is already the name of class 1. Give each class a "
                      "name of its own\n")));
}

TEST_F(ClassLists, NamesOfOldVersionsAreRead) {
  std::string old = pairs("[ground, red, green]");
  const std::string now = "metainfo: {classes: [ground, red, green]}";
  old.replace(old.find(now), now.size(),
              "metainfo: {CLASSES: [ground, red, green], PALETTE: [[0, 0, 0], [9, 0, 0], [0, 9, "
              "0]]}");
  const std::string found = warnings(old);
  EXPECT_THAT(found, AllOf(HasSubstr(place("8:16") +
                                     "warning: train_dataloader.dataset.metainfo: 'CLASSES' is "
                                     "read as 'classes', its name since MMSegmentation 1.0\n"),
                           HasSubstr("'PALETTE' is read as 'palette'")));
  const RunConfig config = load_run_config(dir_ / "a.yaml");
  EXPECT_EQ(config.val_dataloader->dataset.facts().classes,
            (std::vector<std::string>{"ground", "red", "green"}));
  EXPECT_EQ(config.val_dataloader->dataset.build()->meta().palette.at(1),
            (std::array<int, 3>{9, 0, 0}));
  EXPECT_EQ(errors(old), "no error");
}

TEST_F(ClassLists, AMetricNeedsClasses) {
  const std::string unnamed =
      "_base_: pairs.yaml\nval_dataloader: {dataset: {metainfo: {_delete_: true, palette: []}}}\n";
  EXPECT_EQ(errors(unnamed),
            place("2:38") +
                "error: val_dataloader.dataset.metainfo: names no classes, which IoUMetric needs. "
                "Write metainfo: {classes: [...]}\n"
                "1 error in the configuration");
  // One that only writes predictions needs none.
  EXPECT_EQ(errors(unnamed + "val_evaluator: {format_only: true, output_dir: /nowhere/out}\n"
                             "default_hooks: {checkpoint: {save_best: null}}\n"),
            "no error");
}

TEST_F(ClassLists, HooksThatWaitForAnUnknownMetricAreFoundByTheCheck) {
  EXPECT_EQ(errors("_base_: pairs.yaml\ndefault_hooks: {checkpoint: {save_best: IoU.gren}}\n"),
            place("2:41") +
                "error: default_hooks.checkpoint.save_best: no metric is called 'IoU.gren'. Did "
                "you mean 'IoU.green'? Known: aAcc, mIoU, mAcc, IoU.ground, IoU.red, IoU.green, "
                "Acc.ground, Acc.red, Acc.green\n"
                "1 error in the configuration");
  const std::string stopping =
      "_base_: pairs.yaml\ncustom_hooks: [{type: EarlyStoppingHook, monitor: mDice, strict: ";
  EXPECT_THAT(errors(stopping + "true}]\n"),
              HasSubstr(place("2:51") + "error: custom_hooks.0.monitor: no metric is called "
                                        "'mDice'."));
  EXPECT_EQ(errors(stopping + "false}]\n"), "no error");
}

/// A checkpoint with these names of classes.
Value trained_on(const std::vector<std::string>& names) {
  ValueList classes;
  for (const auto& name : names) classes.emplace_back(name);
  Value dataset = Value::dict(), meta = Value::dict(), out = Value::dict();
  dataset.set("classes", Value::tuple(std::move(classes)));
  meta.set("dataset_meta", dataset);
  out.set("meta", meta);
  return out;
}

TEST_F(ClassLists, CheckpointsAreComparedWithTheTest) {
  const RunConfig config = load_run_config(dir_ / "pairs.yaml");
  const Spec<Dataset>& dataset = config.test_dataloader->dataset;
  const auto compared = [&](const Value& checkpoint) {
    return config_error([&] { check_saved_classes(dataset, checkpoint, "w.pth"); });
  };
  EXPECT_EQ(compared(trained_on({"ground", "red ", "green"})), "no error");
  EXPECT_EQ(compared(Value::dict()), "no error");
  EXPECT_EQ(compared(trained_on({})), "no error");
  EXPECT_EQ(compared(trained_on({"ground", "red"})), "no error");
  EXPECT_THAT(
      compared(trained_on({"green", "red", "ground"})),
      HasSubstr("dataset.metainfo.classes: has the classes of the checkpoint w.pth in "
                "another order: [ground, red, green] instead of [green, red, ground]. Write "
                "metainfo: {classes: [green, red, ground]}"));
  EXPECT_THAT(
      compared(trained_on({"a", "b c", "d"})),
      HasSubstr("has other classes than the checkpoint w.pth: [ground, red, green] instead "
                "of [a, b c, d]. If the labels mean the same, write metainfo: {classes: [a, "
                "b c, d]}"));
}

TEST_F(ClassLists, TrainingMayStartFromOtherClassesButNotResume) {
  const RunConfig config = load_run_config(dir_ / "pairs.yaml");
  const auto compared = [&](const std::vector<std::string>& names, bool resumed) {
    return config_error(
        [&] { check_saved_classes_of_training(config, trained_on(names), "w.pth", resumed); });
  };
  EXPECT_EQ(compared({"a", "b", "c"}, false), "no error");
  EXPECT_EQ(compared({"green", "red", "ground"}, false), "no error");
  EXPECT_EQ(compared({"a", "b", "c"}, true), "no error");
  EXPECT_THAT(compared({"green", "red", "ground"}, true),
              HasSubstr("train_dataloader.dataset.metainfo.classes: has the classes of the "
                        "checkpoint w.pth in another order"));
}

TEST_F(ClassLists, AMisspeltKeyIsNamedWhereItIsMissed) {
  std::string yaml = tiny_run_yaml();
  yaml.replace(yaml.find("train_dataloader:"), 17, "train_dataloder: ");
  EXPECT_EQ(errors(yaml), place("70:12") +
                              "error: train_cfg: needs 'train_dataloader' beside it. Did you mean "
                              "it by 'train_dataloder' (" +
                              dir_ / "a.yaml" + ":35:1)?\n1 error in the configuration");
  yaml = tiny_run_yaml();
  yaml.replace(yaml.find("model:"), 6, "modle:");
  EXPECT_THAT(errors(yaml), HasSubstr("there is no 'model'. Did you mean it by 'modle' (" +
                                      dir_ / "a.yaml" + ":2:1)?\n"));
}

}  // namespace
}  // namespace seg::test
