/// tools/benchmark as people call it. What it measures is not tested: machines differ.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

CommandResult benchmark_tiny(const std::string& arguments) {
  const TempDir dir;
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  return run_command(std::string("OMP_NUM_THREADS=1 ") + program_path("benchmark") + " " + config +
                     " --iters 2 --warmup 1 " + arguments);
}

TEST(Benchmark, PrintsOneLineOfJson) {
  const CommandResult result = benchmark_tiny("--what step data train start --threads 1 2");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
  const auto found = nlohmann::json::parse(result.output);
  EXPECT_EQ(found["device"], "cpu");
  EXPECT_EQ(found["step"]["shape"], nlohmann::json({32, 32}));
  EXPECT_EQ(found["step"]["batch_size"], 3);
  ASSERT_EQ(found["data"].size(), 2U);
  EXPECT_EQ(found["data"][1]["threads"], 2);
  EXPECT_EQ(found["data"][1]["images"], 6);
  EXPECT_GT(found["data"][1]["images_per_second"], 0.0);
  EXPECT_GT(found["train"]["seconds_per_step"], 0.0);
  EXPECT_GE(found["train"]["share_waiting_for_data"], 0.0);
  EXPECT_LE(found["train"]["share_waiting_for_data"], 1.0);
  EXPECT_GT(found["train"]["peak_memory_mb"], 1);
  EXPECT_GE(found["start"]["seconds_to_first_step"], found["start"]["seconds_to_model"]);
}

TEST(Benchmark, MakesPicturesForDataSetsThatAreNotThere) {
  const CommandResult result = run_command(
      program_path("benchmark") + " " +
      source_path(
          "configs/segformer/b0_camvid.yaml --what data --pictures 40 60 --iters 1 --warmup 0"));
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(nlohmann::json::parse(result.output)["data"][0]["images"], 4);
}

TEST(Benchmark, ReadsACheckpoint) {
  const TempDir dir;
  Value state = Value::dict();
  state.set("weight", torch::rand({1000, 500}));
  write_checkpoint(dir / "a.pth", state);
  const std::string python = python_with_torch();
  const CommandResult result =
      run_command(program_path("benchmark") + " " + dir / "a.pth" + " --what checkpoint --iters 3" +
                  (python.empty() ? "" : " --python " + python));
  ASSERT_EQ(result.status, 0) << result.output;
  const auto found = nlohmann::json::parse(result.output)["checkpoint"];
  EXPECT_EQ(found["megabytes"], 2);
  EXPECT_GT(found["seconds"], 0.0);
  EXPECT_EQ(found.contains("ratio"), !python.empty());
}

TEST(Benchmark, RefusesWhatItDoesNotKnow) {
  const CommandResult result = benchmark_tiny("--what stepp");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("--what: unknown value 'stepp'. Did you mean 'step'?"));
}

}  // namespace
}  // namespace seg::test
