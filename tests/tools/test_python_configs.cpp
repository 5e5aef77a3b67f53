/// Configurations in Python: as people run them, and resolved as MMEngine resolves them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "registry/python_json.hpp"
#include "registry/yaml.hpp"
#include "segcore/io/sha256.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class PythonConfigs : public ::testing::Test {
 protected:
  PythonConfigs() { dir_.write("tiny.yaml", tiny_run_yaml()); }
  CommandResult run(const std::string& command) const {
    const std::string bin = fs::path(program_path("train")).parent_path().string();
    return run_command("cd " + dir_.path().string() + " && OMP_NUM_THREADS=1 PATH=" + bin +
                       ":$PATH " + command + " 2>&1");
  }
  const TempDir dir_;
};

TEST_F(PythonConfigs, TrainTestAndPredict) {
  dir_.write("net.py",
             "_base_ = ['./tiny.yaml']\n"
             "classes = 5\n"
             "model = dict(decode_head=dict(num_classes=classes))\n"
             "train_cfg = dict(max_iters=2, val_interval=2)\n");
  const CommandResult trained = run("train net.py --cfg-options train_dataloader.batch_size=3");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const Config resolved = load_config(dir_ / "work_dirs/net/net.yaml");
  EXPECT_EQ(resolved.at_path("train_cfg.max_iters")->scalar, "2");
  EXPECT_EQ(resolved.at_path("train_dataloader.batch_size")->scalar, "3");
  const CommandResult tested = run("env test net.py work_dirs/net/iter_2.pth --work-dir t");
  EXPECT_EQ(tested.status, 0) << tested.output;
  // The resolved config is the same run.
  const CommandResult again = run("env test work_dirs/net/net.yaml work_dirs/net/iter_2.pth");
  EXPECT_EQ(again.status, 0) << again.output;
}

TEST_F(PythonConfigs, AreExplainedAndCheckedByTheirLines) {
  dir_.write("net.py",
             "_base_ = 'tiny.yaml'\nmax_iters = 4\n"
             "train_cfg = dict(\n    max_iters=max_iters,\n    val_intervall=2)\n");
  const CommandResult explained = run("print_config net.py --explain train_cfg.max_iters");
  EXPECT_EQ(explained.status, 0);
  EXPECT_THAT(explained.output, HasSubstr("  net.py:4:15: 4\n"));
  const CommandResult checked = run("print_config net.py --check");
  EXPECT_EQ(checked.status, 1);
  EXPECT_THAT(checked.output,
              HasSubstr("net.py:5:5: error: train_cfg: IterBasedTrainLoop has no option "
                        "'val_intervall'. "));
  EXPECT_THAT(checked.output, HasSubstr("Did you mean 'val_interval'?"));
}

/// A class of the user's own is read from its file, whose imports are not there.
TEST_F(PythonConfigs, NameDataSetClassesOfTheirOwn) {
  write_tiny_dataset(dir_, 4, 3, 32, 32);
  dir_.write("project/street.py", R"(import numpy as np
from mmseg.registry import DATASETS
from mmseg.datasets import BaseSegDataset

NAMES = ('road', 'car', 'sky')


class Scenes(BaseSegDataset):
    """Scenes."""
    METAINFO = dict(classes=NAMES, palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]])

    def __init__(self, img_suffix='.png', seg_map_suffix='.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
        assert self.metainfo is not None


@DATASETS.register_module()
class StreetDataset(Scenes):
    METAINFO = dict(classes=('road', 'car', 'tree'), palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]])


@DATASETS.register_module()
class OddDataset(BaseSegDataset):
    def load_data_list(self):
        return []
)");
  dir_.write("net.py", R"(_base_ = './tiny.yaml'
custom_imports = dict(imports=['project.street'], allow_failed_imports=False)
data = dict(
    _delete_=True, type='StreetDataset', data_prefix=dict(img_path='img', seg_map_path='ann'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')])
model = dict(decode_head=dict(num_classes=3))
train_dataloader = dict(dataset=data)
val_dataloader = dict(dataset=data)
test_dataloader = dict(dataset=data)
train_cfg = dict(max_iters=2, val_interval=2)
)");
  const CommandResult trained = run("train net.py");
  ASSERT_EQ(trained.status, 0) << trained.output;
  EXPECT_THAT(trained.output, HasSubstr("tree"));
  const Config resolved = load_config(dir_ / "work_dirs/net/net.yaml");
  EXPECT_EQ(dump_flow(*resolved.at_path("train_dataloader.dataset.metainfo.classes")),
            "[road, car, tree]");
  EXPECT_EQ(resolved.at_path("train_dataloader.dataset.type")->scalar, "BaseSegDataset");
  // A sweep checks its runs before they start, and its configs lie elsewhere.
  dir_.write("sweep.yaml", "base: net.py\nspace: {randomness.seed: [1, 2]}\n");
  const CommandResult sweep = run("sweep sweep.yaml --dry-run");
  EXPECT_EQ(sweep.status, 0) << sweep.output;
  // Printed, it needs no Python any more.
  EXPECT_THAT(run("print_config net.py --explain train_dataloader.dataset.type").output,
              HasSubstr("BaseSegDataset"));
  dir_.write("odd.py",
             "_base_ = './net.py'\ntrain_dataloader = dict(dataset=dict(type='OddDataset'))\n");
  const CommandResult odd = run("print_config odd.py --check");
  EXPECT_EQ(odd.status, 1);
  EXPECT_THAT(odd.output, HasSubstr("odd.py:2:43: error: type: the class OddDataset "
                                    "(project/street.py:23:1) defines load_data_list(), and Python "
                                    "code is not run here."));
  dir_.write("other.py", "_base_ = './tiny.yaml'\ncustom_imports = dict(imports=['my.losses'])\n");
  EXPECT_THAT(run("print_config other.py --check").output,
              HasSubstr("other.py:2:32: custom_imports: the Python module my.losses has no effect "
                        "here: types that it registers are unknown"));
}

TEST_F(PythonConfigs, GoOnWithoutTheirTrackers) {
  dir_.write("net.py", R"(_base_ = './tiny.yaml'
vis_backends = [dict(type='LocalVisBackend'), dict(type='WandbVisBackend', init_kwargs=dict(project='x'))]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
train_cfg = dict(max_iters=1, val_interval=1)
)");
  const CommandResult trained = run("train net.py");
  EXPECT_EQ(trained.status, 0) << trained.output;
  EXPECT_THAT(trained.output,
              HasSubstr("net.py:2:16: visualizer.vis_backends: WandbVisBackend is left out: "));
}

/// "digest<tab>name" of each line that is no comment.
std::vector<std::pair<std::string, std::string>> listed_digests(const std::string& path) {
  std::vector<std::pair<std::string, std::string>> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const size_t tab = line.find('\t');
    if (line.starts_with('#') || tab == std::string::npos) continue;
    out.emplace_back(line.substr(0, tab), line.substr(tab + 1));
  }
  return out;
}

/// The digest of a config, or its first error.
std::string digest_of(const std::string& path) {
  try {
    return sha256_of_text(python_json(load_config(path))).substr(0, 16);
  } catch (const ConfigError& e) {
    return e.what();
  }
}

TEST(ConfigDigests, AreThoseThatMmengineHas) {
  const std::string folder = source_path("tests/data/python_configs");
  const auto listed = listed_digests(folder + "/digests.tsv");
  ASSERT_GE(listed.size(), 12u);
  for (const auto& [digest, name] : listed) {
    EXPECT_EQ(digest_of(folder + "/" + name), digest) << name;
  }
}

/// The configs in the wheel of mmsegmentation: of $SEGCORE_MMSEG_CONFIGS, or of python3's packages.
std::string published_configs() {
  if (const char* given = std::getenv("SEGCORE_MMSEG_CONFIGS")) return given;
  const CommandResult found = run_command(
      "python3 -c \"import importlib.util as u; "
      "print(u.find_spec('mmseg').submodule_search_locations[0])\" 2>/dev/null");
  std::istringstream in(found.output);
  std::string folder;
  if (found.status != 0 || !std::getline(in, folder)) return "";
  return folder + "/.mim/configs";
}

TEST(ConfigDigests, AreThoseOfThePublishedConfigs) {
  const std::string list = source_path("../shared/reference/config_digests.tsv");
  if (!fs::exists(list)) GTEST_SKIP() << "there is no " << list;
  const std::string folder = published_configs();
  if (folder.empty() || !fs::exists(folder)) {
    GTEST_SKIP() << "python3 has no mmsegmentation, whose configs are read here "
                    "(SEGCORE_MMSEG_CONFIGS names their folder)";
  }
  for (const auto& [digest, name] : listed_digests(list)) {
    EXPECT_EQ(digest_of(folder + "/" + name), digest) << name;
  }
}

/// Minutes, so only where the variable asks for it.
TEST(StateDicts, AreThoseOfThePublishedModels) {
  const char* folder = std::getenv("SEGCORE_MMSEG_CONFIGS");
  if (!folder) GTEST_SKIP() << "SEGCORE_MMSEG_CONFIGS names no configs of mmsegmentation";
  const auto listed = listed_digests(source_path("tests/data/python_configs/state_digests.tsv"));
  ASSERT_EQ(listed.size(), 416u);
  for (const auto& [digest, name] : listed) {
    const CommandResult printed = run_command(program_path("inspect") + " --state-dict " + folder +
                                              "/" + name + " 2>/dev/null");
    std::vector<std::string> rows;
    std::istringstream in(printed.output);
    for (std::string row; std::getline(in, row);) rows.push_back(row.substr(0, row.rfind('\t')));
    std::ranges::sort(rows);
    EXPECT_EQ(sha256_of_text(join(rows, "\n")).substr(0, 16), digest) << name;
  }
}

}  // namespace
}  // namespace seg::test
