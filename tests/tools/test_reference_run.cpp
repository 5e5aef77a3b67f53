/// A run of MMSegmentation continues here: its config and checkpoints are taken as they are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;

class ReferenceRun : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path shared = fs::path(source_path("../shared"));
    const fs::path camvid = shared / "data/camvid";
    run_ = (shared / "reference/mmengine_run").string();
    if (!fs::exists(camvid) || !fs::exists(run_)) {
      GTEST_SKIP() << "the images of CamVid and the run of MMSegmentation are not here: " << shared;
    }
    // The config has its data at data/camvid, seen from where it runs.
    fs::create_directory(dir_ / "data");
    fs::create_directory_symlink(fs::canonical(camvid), dir_ / "data/camvid");
  }
  CommandResult run(const std::string& words) const {
    return run_command("cd " + dir_.path().string() + " && " + program_path(words));
  }
  TempDir dir_;
  std::string run_;
};

TEST_F(ReferenceRun, ResumesWithTheSameLosses) {
  const CommandResult trained =
      run("train " + run_ + "/config.yaml --work-dir w --resume " + run_ +
          "/iter_2.pth --cfg-options log_processor.window_size=1 val_dataloader.dataset.indices=2");
  ASSERT_EQ(trained.status, 0) << trained.output;
  std::vector<double> losses, rates;
  for (const auto& entry : fs::recursive_directory_iterator(dir_.path() / "w")) {
    if (entry.path().filename() != "scalars.json") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto row = nlohmann::json::parse(line);
      if (!row.contains("loss")) continue;
      losses.push_back(row["loss"]);
      rates.push_back(row["lr"]);
    }
  }
  ASSERT_EQ(losses.size(), 2u) << trained.output;
  // Those of the original; its scalars.json has means over all four steps.
  EXPECT_NEAR(losses[0], 2.23208, 2.23208e-4);
  EXPECT_NEAR(losses[1], 2.24381, 2.24381e-4);
  EXPECT_NEAR(rates[0], 6.315843157894736e-05, 1e-16);
  EXPECT_NEAR(rates[1], 9.473734736842104e-05, 1e-16);
}

TEST_F(ReferenceRun, ItsWeightsGiveItsTable) {
  const CommandResult tested =
      run("test " + run_ + "/config.yaml " + run_ +
          "/iter_4.pth --work-dir t --cfg-options test_dataloader.dataset.data_prefix.img_path=val "
          "test_dataloader.dataset.data_prefix.seg_map_path=valannot");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr(R"(
+------------+-------+-------+
|   Class    |  IoU  |  Acc  |
+------------+-------+-------+
|    sky     |  0.3  |  0.55 |
|  building  | 19.14 | 54.47 |
|    pole    |  0.0  |  0.0  |
|    road    |  1.16 |  1.29 |
|  pavement  |  0.0  |  0.0  |
|    tree    |  0.12 |  0.12 |
|    sign    |  0.0  |  0.0  |
|   fence    |  4.01 | 10.45 |
|    car     |  0.66 |  7.8  |
| pedestrian |  0.0  |  0.0  |
| bicyclist  |  0.0  |  0.0  |
+------------+-------+-------+
)"));
  EXPECT_THAT(tested.output, HasSubstr("Iter(test) [101/101]    aAcc: 15.3100  mIoU: 2.3100  "
                                       "mAcc: 6.7900  data_time: "));
}

}  // namespace
}  // namespace seg::test
