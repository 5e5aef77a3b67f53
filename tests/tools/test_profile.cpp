/// tools/profile as people call it. Times are not tested: machines differ.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class Profile : public ::testing::Test {
 protected:
  CommandResult profile(const std::string& arguments) {
    return run_command("OMP_NUM_THREADS=1 " + program_path("profile") + " " + dir_ / "tiny.yaml" +
                       " --iters 1 --warmup 1 " + arguments);
  }

  void SetUp() override { dir_.write("tiny.yaml", tiny_run_yaml()); }
  TempDir dir_;
};

TEST_F(Profile, ShowsPhasesModulesAndOperators) {
  const CommandResult result = profile("--depth 1 --top 3");
  ASSERT_EQ(result.status, 0) << result.output;
  const std::string& out = result.output;
  EXPECT_THAT(out, HasSubstr("a training step, 3 images of 32x32, on cpu with 1 thread\n"));
  EXPECT_THAT(out, ContainsRegex("peak measured here: [0-9.]+ [MGT]FLOPs/s .*[0-9.]+ [MGT]B/s"));
  for (const char* phase : {"preprocessor", "forward", "backward", "optimizer"}) {
    EXPECT_THAT(out, ContainsRegex("\n *" + std::string(phase) + " +[0-9.]+ +[0-9.]+ %"));
  }
  EXPECT_THAT(out, ContainsRegex("\n *backbone +[0-9.]+ +[0-9.]+ +[0-9.]+ % .*[0-9.]+ %"));
  EXPECT_THAT(out, ContainsRegex("\n *decode_head +[0-9.]+ +[0-9.]+ +[0-9.]+ %"));
  EXPECT_THAT(out, ContainsRegex("\n *[0-9]+ others +[0-9]+ +[0-9.]+ +[0-9.]+ %"));
  EXPECT_THAT(out, HasSubstr("\ncopies between contiguous and channels-last: "));
  EXPECT_THAT(profile("--depth 2").output, HasSubstr(" decode_head.loss "));
}

TEST_F(Profile, WritesATraceForPerfetto) {
  const std::string file = dir_ / "step.json";
  const CommandResult result = profile("--trace " + file);
  ASSERT_EQ(result.status, 0) << result.output;
  std::ifstream in(file);
  const auto trace = nlohmann::json::parse(in);
  std::set<std::string> names;
  for (const auto& event : trace["traceEvents"]) names.insert(event.value("name", ""));
  for (const char* name : {"forward", "optimizer", "segcore::layer_norm"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(Profile, ReportsATraceThatCannotBeWrittenBeforeItMeasures) {
  const CommandResult result = profile("--trace " + (dir_ / "none/step.json"));
  EXPECT_EQ(result.status, 1) << result.output;
  EXPECT_THAT(result.output, HasSubstr("error: cannot write "));
  EXPECT_THAT(result.output, Not(HasSubstr("training step")));
}

TEST_F(Profile, ReportsErrorsOfTheConfig) {
  const CommandResult result = profile("--cfg-options model.backbone.typ=1");
  EXPECT_EQ(result.status, 1) << result.output;
  EXPECT_THAT(result.output, HasSubstr("has no option 'typ'"));
}

}  // namespace
}  // namespace seg::test
