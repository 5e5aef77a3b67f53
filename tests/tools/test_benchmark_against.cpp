/// tools/benchmark beside MMSegmentation, whose place a script takes that prints what it would.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class BenchmarkAgainst : public ::testing::Test {
 protected:
  BenchmarkAgainst() { dir_.write("tiny.yaml", tiny_run_yaml()); }

  /// A program that gets what a Python would get: a script, a configuration and options.
  std::string stand_in(const std::string& shell) const {
    std::string path = dir_.write("python", "#!/bin/sh\n" + shell);
    fs::permissions(path, fs::perms::owner_all);
    return path;
  }

  struct Answer {
    int status = -1;
    nlohmann::json found;
    std::string errors;
  };
  Answer benchmark(const std::string& arguments) const {
    const CommandResult result = run_command(
        "cd " + dir_.path().string() + " && (OMP_NUM_THREADS=1 " + program_path("benchmark") +
        " tiny.yaml --device cpu --iters 2 --warmup 1 " + arguments + " 2>errors)");
    return {.status = result.status,
            .found = nlohmann::json::parse(result.output, nullptr, /*allow_exceptions=*/false),
            .errors = dir_.read("errors")};
  }

  TempDir dir_;
};

TEST_F(BenchmarkAgainst, ComparesWithTheFastestInTurn) {
  const std::string python = stand_in(R"(
echo "$@" >> asked
cp "$2" given.yaml
echo "a warning of Python" >&2
case "$*" in
*--channels-last*) echo '{"step": {"seconds_per_step_median": 500, "batch_size": 3, "peak_memory_mb": 100000}}' ;;
*--compile*) echo "error: Unsupported: a loop" >&2; exit 1 ;;
*"--what step"*) echo '{"step": {"seconds_per_step_median": 900, "batch_size": 3, "peak_memory_mb": 90000}}' ;;
*"--what data"*) echo '{"data": [{"images_per_second": 0.5}]}' ;;
*) echo '{"start": {"seconds_to_first_step": 1000}}' ;;
esac
echo "a progress bar of Python"
)");
  const Answer answer = benchmark("--what all --threads 0 1 --against " + python);
  ASSERT_EQ(answer.status, 0) << answer.errors;

  const auto step = answer.found["step"];
  ASSERT_EQ(step["ours"].size(), 2U) << answer.found;
  EXPECT_EQ(step["ours"][0]["shape"], nlohmann::json({32, 32}));
  EXPECT_EQ(step["theirs"].size(), 2U);
  EXPECT_EQ(step["fastest"], "channels_last");
  const double ours = (step["ours"][0]["seconds_per_step_median"].get<double>() +
                       step["ours"][1]["seconds_per_step_median"].get<double>()) /
                      2;
  EXPECT_NEAR(step["times_as_fast"].get<double>() * ours, 500, 0.1);
  const double memory = std::max(step["ours"][0]["peak_memory_mb"].get<double>(),
                                 step["ours"][1]["peak_memory_mb"].get<double>());
  EXPECT_NEAR(step["memory"].get<double>(), memory / 100000, 1e-6);
  const auto data = answer.found["data"];
  ASSERT_EQ(data.size(), 2U);
  EXPECT_EQ(data[1]["ours"][0]["threads"], 1);
  EXPECT_GT(data[1]["times_as_fast"], 1.0);
  EXPECT_FALSE(data[1].contains("memory"));
  EXPECT_GT(answer.found["start"]["times_as_fast"], 1.0);

  const char* problem = "no comparison of step with MMSegmentation (compiled): Unsupported: a loop";
  EXPECT_THAT(answer.found["problems"], ElementsAre(problem));
  EXPECT_THAT(answer.errors, AllOf(HasSubstr(std::string("warning: ") + problem + "\n"),
                                   HasSubstr("step: MMSegmentation, channels-last"),
                                   HasSubstr("times as fast"), Not(HasSubstr("of Python"))));
  // Theirs has our resolved configuration, images and numbers.
  EXPECT_THAT(dir_.read("given.yaml"), HasSubstr("type: MixVisionTransformer"));
  const std::string asked = dir_.read("asked");
  EXPECT_THAT(asked, HasSubstr("--what step --device cpu --iters 2 --warmup 1 --batch-size 3 "
                               "--shape 32 32\n"));
  EXPECT_THAT(asked, HasSubstr("--what data --device cpu --iters 2 --warmup 1 --threads 1\n"));
  EXPECT_TRUE(fs::exists(asked.substr(0, asked.find(' ')))) << asked;
}

TEST_F(BenchmarkAgainst, MeasuresOursWithoutAProgram) {
  const Answer answer = benchmark("--what step start --against no-such-python");
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.errors,
            "warning: no comparison with MMSegmentation: there is no program 'no-such-python'\n");
  EXPECT_GT(answer.found["step"]["ours"][0]["seconds_per_step"], 0.0) << answer.found;
  EXPECT_GT(answer.found["start"]["ours"][0]["seconds_to_first_step"], 0.0);
  EXPECT_TRUE(answer.found["step"]["theirs"].empty());
}

TEST_F(BenchmarkAgainst, MeasuresOursWithoutMMSegmentation) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch";
  if (run_command(python + " -c 'import mmseg'").status == 0) GTEST_SKIP() << "it has mmseg";
  const Answer answer = benchmark("--against " + python);
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.errors,
            "warning: no comparison with MMSegmentation: " + python + " has no module 'mmseg'\n");
  EXPECT_EQ(answer.found["step"]["ours"].size(), 1U) << answer.found;
}

TEST_F(BenchmarkAgainst, SaysInOneSentenceWhyTheirsFails) {
  const std::string begin = "warning: no comparison of step with MMSegmentation (eager): ";
  const auto errors = [&](const std::string& shell, const std::string& options = "") {
    const Answer answer = benchmark("--against " + stand_in(shell) + options);
    EXPECT_EQ(answer.status, 0);
    EXPECT_EQ(answer.found["step"]["ours"].size(), 1U) << answer.found;
    return answer.errors;
  };
  EXPECT_EQ(errors("echo \"error: MMSegmentation has no 'NewHead'\" >&2; exit 1"),
            begin + "MMSegmentation has no 'NewHead'\n");
  EXPECT_EQ(errors("exit 5"), begin + "it ended with exit code 5 and no message\n");
  EXPECT_EQ(errors("kill -SEGV $$"), begin + "killed by SIGSEGV\n");
  EXPECT_EQ(errors("echo '{\"step\": {}}'"),
            begin + "its answer has no 'seconds_per_step_median'\n");
  EXPECT_EQ(errors("exec sleep 100", " --limit 10"), begin + "not done after 10 s\n");
}

TEST_F(BenchmarkAgainst, LeavesOutWhatAConfigurationDoesNotHave) {
  dir_.write("with_data.yaml", tiny_run_yaml());
  dir_.write("tiny.yaml", "_base_: with_data.yaml\ntrain_dataloader: null\ntrain_cfg: null\n");
  const std::string why = "is not measured: the configuration has no 'train_dataloader' to measure";
  const Answer all = benchmark("--what all");
  EXPECT_EQ(all.status, 0);
  EXPECT_GT(all.found["step"]["seconds_per_step"], 0.0) << all.found;
  EXPECT_THAT(all.found["problems"], ElementsAre("data " + why, "start " + why));
  EXPECT_EQ(all.errors, "warning: data " + why + "\nwarning: start " + why + "\n");
  const Answer data = benchmark("--what data --against no-such-python");
  EXPECT_EQ(data.status, 1) << data.found;
}

}  // namespace
}  // namespace seg::test
