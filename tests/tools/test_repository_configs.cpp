/// Configs as people write them in repositories of their own: with data set classes, trackers,
/// other scripts and odd formatting. Each is resolved as MMEngine resolves it, and can be built.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "registry/log.hpp"
#include "registry/python_json.hpp"
#include "registry/yaml.hpp"
#include "runners/start/parts.hpp"
#include "segcore/io/sha256.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct RepositoryConfig {
  std::string digest, name;
  std::vector<std::string> warnings;  // parts of each, in order
};

std::string repository_folder() { return source_path("tests/data/repository_configs"); }

std::vector<std::string> divided(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) out.push_back(part);
  return out;
}

std::vector<RepositoryConfig> repository_configs() {
  std::vector<RepositoryConfig> out;
  std::ifstream in(repository_folder() + "/digests.tsv");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    const std::vector<std::string> columns = divided(line, '\t');
    out.push_back({columns.at(0), columns.at(1), {columns.begin() + 2, columns.end()}});
  }
  return out;
}

TEST(RepositoryConfigs, AreResolvedAsMmengineResolvesThem) {
  const std::vector<RepositoryConfig> configs = repository_configs();
  ASSERT_EQ(configs.size(), 20u);
  for (const RepositoryConfig& config : configs) {
    const Config tree = load_config(repository_folder() + "/" + config.name);
    EXPECT_EQ(sha256_of_text(python_json(tree)).substr(0, config.digest.size()), config.digest)
        << config.name;
  }
}

/// What load and build write to the log; with the error, where there is one.
std::string checked_in_process(const std::string& path) {
  ::testing::internal::CaptureStdout();
  std::string error;
  try {
    build_all(load_run_config(path));
  } catch (const ConfigError& e) {
    error = e.what();
  }
  log::flush();
  return ::testing::internal::GetCapturedStdout() + error;
}

/// As --check does, whose processes would take longer than the checks.
TEST(RepositoryConfigs, CanBeBuilt) {
  for (const RepositoryConfig& config : repository_configs()) {
    SCOPED_TRACE(config.name);
    const std::string output = checked_in_process(repository_folder() + "/" + config.name);
    EXPECT_THAT(output, Not(HasSubstr("error")));
    std::vector<std::string> warnings;
    for (const std::string& line : divided(output, '\n')) {
      if (line.find("WARNING") != std::string::npos) warnings.push_back(line);
    }
    ASSERT_EQ(warnings.size(), config.warnings.size()) << output;
    for (size_t i = 0; i < warnings.size(); ++i) {
      EXPECT_THAT(warnings[i], HasSubstr(config.warnings[i]));
    }
  }
}

/// The classes of a fork are found from anywhere.
TEST(RepositoryConfigs, AreChecked) {
  const TempDir elsewhere;
  for (const char* name :
       {"fork/configs/pools/ocrnet_pools.py", "ICNet-Kidney__v3.final copy.py"}) {
    const CommandResult checked = run_command(
        "cd " + elsewhere.path().string() + " && OMP_NUM_THREADS=1 " +
        program_path("print_config") + " '" + repository_folder() + "/" + name + "' --check 2>&1");
    EXPECT_EQ(checked.status, 0) << checked.output;
    EXPECT_THAT(checked.output, HasSubstr(": all parts can be built\n"));
  }
}

class OwnClasses : public ::testing::Test {
 protected:
  OwnClasses() {
    dir_.write("town.py", R"(from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

PALETTE = [[i, i, i] for i in range(3)]


@DATASETS.register_module('Town')
class TownDataset(CityscapesDataset):
    METAINFO = dict(classes=('road', 'shed', 'tree'), palette=PALETTE)


@DATASETS.register_module()
class OldTown(TownDataset):
    def __init__(self, **kwargs):
        super().__init__(reduce_zero_label=True, **kwargs)
)");
  }
  /// The resolved data set of a config with these options.
  std::string resolved(const std::string& options) const {
    dir_.write("net.py", "train_dataloader = dict(dataset=dict(" + options + "))\n");
    const CommandResult printed = run_command("cd " + dir_.path().string() + " && " +
                                              program_path("print_config") + " net.py 2>&1");
    if (printed.status != 0) return printed.output;
    return dump_flow(*parse_config(printed.output).at_path("train_dataloader.dataset"));
  }
  const TempDir dir_;
};

TEST_F(OwnClasses, ReplaceThoseOfAPublishedDataSet) {
  EXPECT_EQ(resolved("type='Town'"),
            "{type: BaseSegDataset, img_suffix: _leftImg8bit.png, seg_map_suffix: "
            "_gtFine_labelTrainIds.png, metainfo: {classes: [road, shed, tree], palette: [[0, 0, "
            "0], [1, 1, 1], [2, 2, 2]]}}");
}

TEST_F(OwnClasses, CanBeChosenFrom) {
  EXPECT_EQ(resolved("type='Town', img_suffix='.png', metainfo=dict(classes=['tree', 'road'])"),
            "{type: BaseSegDataset, img_suffix: .png, metainfo: {classes: [tree, road], palette: "
            "[[2, 2, 2], [0, 0, 0]]}, seg_map_suffix: _gtFine_labelTrainIds.png, label_map: {0: 1, "
            "1: 255, 2: 0}}");
  EXPECT_THAT(resolved("type='Town', metainfo=dict(classes=['tree', 'rode'])"),
              HasSubstr("net.py:1:82: error: metainfo.classes: 'rode' is no class of Town. Did you "
                        "mean 'road'? Known: road, shed, tree"));
  EXPECT_THAT(resolved("type='OldTown', metainfo=dict(classes=['tree'])"),
              HasSubstr("net.py:1:76: error: metainfo.classes: classes of OldTown cannot be chosen "
                        "where reduce_zero_label maps the labels, too; its classes are road, shed, "
                        "tree"));
}

TEST_F(OwnClasses, HaveTheNamesThatTheyAreRegisteredUnder) {
  EXPECT_THAT(resolved("type='TownDataset'"), HasSubstr("type: TownDataset"));
}

}  // namespace
}  // namespace seg::test
