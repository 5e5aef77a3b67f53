/// Processes that are given no seed agree on one, and the run can be made again with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

TEST(SeedOfProcesses, IsAgreedOnAndMakesTheRunAgain) {
  const TempDir dir;
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  for (const std::string each : {"false", "true"}) {
    SCOPED_TRACE(each);
    const auto train = [&](const std::string& work_dir, const std::string& seed) {
      const auto both =
          run_ranks(2, text("train ", config, " --work-dir ", dir / work_dir,
                            " --cfg-options train_cfg.max_iters=3 train_cfg.val_interval=3 "
                            "randomness.diff_rank_seed=",
                            each, " randomness.seed=", seed));
      EXPECT_EQ(both[0].status, 0) << both[0].output;
      EXPECT_EQ(both[1].status, 0) << both[1].output;
      return both[0].output;
    };
    const std::string output = train("drawn" + each, "None");
    std::smatch seed;
    ASSERT_TRUE(std::regex_search(output, seed, std::regex("\n    seed: ([0-9]+)\n"))) << output;
    train("given" + each, seed[1]);
    const Value drawn = read_checkpoint(dir / ("drawn" + each + "/iter_3.pth"));
    const Value given = read_checkpoint(dir / ("given" + each + "/iter_3.pth"));
    EXPECT_EQ(first_difference(drawn.at("state_dict"), given.at("state_dict")), "");
    // A row a process.
    const at::Tensor rows = drawn.at("segcore").at("generators").as_tensor();
    EXPECT_TRUE(at::equal(rows, given.at("segcore").at("generators").as_tensor()));
    EXPECT_EQ(at::equal(rows[0], rows[1]), each == "false");
  }
}

/// Errors of constructors are reported before processes meet, and nothing is written.
TEST(SeedOfProcesses, MistakesOfPartsEndAllBeforeTheyMeet) {
  const TempDir dir;
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  const auto both = run_ranks(2, "train " + config + " --work-dir " + dir / "w" +
                                     " --cfg-options model.decode_head.in_channels=[8,9]");
  for (const CommandResult& one : both) {
    EXPECT_EQ(one.status, 1) << one.output;
    EXPECT_THAT(one.output, HasSubstr("model.decode_head.in_channels: is [8, 9]"));
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "w"));
}

}  // namespace
}  // namespace seg::test
