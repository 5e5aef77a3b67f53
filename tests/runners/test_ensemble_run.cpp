/// Ensembles whose members are configs and work dirs of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/evaluate/test_run.hpp"
#include "runners/train/training_run.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// A test of the tiny run by a model of this text. \return its mIoU.
double tested(const TempDir& dir, const std::string& name, const std::string& model,
              const std::string& checkpoint) {
  const std::string path = dir.write(
      name, "_base_: tiny.yaml\nwork_dir: " + (dir / "tested") + "\nmodel: " + model + "\n");
  return *find_scalar(run_test(load_run_config(path), checkpoint), "mIoU");
}

TEST(EnsembleRun, TestsTheCheckpointsOfItsMembers) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  std::vector<std::string> checkpoints;
  for (const char* name : {"a", "b"}) {
    const std::string path =
        dir.write(std::string(name) + ".yaml",
                  "_base_: tiny.yaml\nwork_dir: " + (dir / name) +
                      "\nrandomness: {seed: " + (name[0] == 'a' ? "3" : "4") +
                      "}\ntrain_cfg: {max_iters: 4, val_interval: 4}\ndefault_hooks: {checkpoint: "
                      "{save_best: null}}\n");
    run_training(load_run_config(path));
    checkpoints.push_back(dir / (std::string(name) + "/iter_4.pth"));
  }
  const double alone = tested(dir, "alone.yaml", "{}", checkpoints[0]);
  // The paths are those of the file that names them; a folder stands for its checkpoint.
  const double twice = tested(dir, "twice.yaml",
                              "{_delete_: true, type: EnsembleSegmentor, members: [{config: "
                              "a.yaml, checkpoint: a/iter_4.pth}, {config: a.yaml, checkpoint: a, "
                              "weight: 2}]}",
                              "members");
  EXPECT_DOUBLE_EQ(twice, alone);
  EXPECT_GT(tested(dir, "both.yaml",
                   "{_delete_: true, type: EnsembleSegmentor, members: [{config: a.yaml, "
                   "checkpoint: a}, {config: b.yaml, checkpoint: b}]}",
                   "members"),
            0);
  EXPECT_THROW(tested(dir, "one.yaml", "{}", "members"), DataError);
}

TEST(EnsembleRun, ReportsMembersWithTheirLine) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  dir.write("empty.yaml", "work_dir: a\n");
  const auto error = [&](const std::string& member) {
    const std::string path =
        dir.write("e.yaml",
                  "_base_: tiny.yaml\nmodel:\n  _delete_: true\n  type: EnsembleSegmentor\n  "
                  "members:\n  - " +
                      member + "\n");
    return config_error([&] { load_run_config(path); });
  };
  const std::string place = dir / "e.yaml" + ":6:";
  EXPECT_THAT(error("{config: c.yaml}"),
              HasSubstr(place + "14: error: model.members.0.config: there is no file '" +
                        (dir / "c.yaml") + "'"));
  EXPECT_THAT(error("{config: empty.yaml}"), HasSubstr("empty.yaml has no 'model'"));
  EXPECT_THAT(error("{config: tiny.yaml, model: {type: X}}"),
              HasSubstr("give a config or a model, not both"));
  EXPECT_THAT(error("{weight: 1}"), HasSubstr("needs a model, or the config that has it"));
}

}  // namespace
}  // namespace seg::test
