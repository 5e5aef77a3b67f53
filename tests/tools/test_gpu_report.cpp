/// tools/gpu_report without a GPU: its plan, and its report of programs that scripts stand in for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class GpuReport : public ::testing::Test {
 protected:
  void program(const std::string& name, const std::string& shell) const {
    fs::permissions(dir_.write(name, "#!/bin/sh\n" + shell), fs::perms::owner_all);
  }
  /// Programs that answer as those of a machine with a GPU would; `benchmark` begins with `first`.
  void stand_in(const std::string& first = "") const {
    program("benchmark", R"([ "$1" = --version ] && echo "segcore 1" && exit
)" + first + R"(
case "$*" in
*swin*) echo "error: not enough GPU memory: 1 TB" >&2; exit 1 ;;
*"--what train"*) echo '{"train": {"seconds_per_step_median": 0.2, "images_per_second": 80, "peak_memory_mb": 10, "share_waiting_for_data": 0.01}}' ;;
*cuda_graph=auto*) echo '{"step": {"seconds_per_step_median": 0.1, "images_per_second": 160, "peak_memory_mb": 10}}' ;;
*) echo '{"step": {"seconds_per_step_median": 0.2, "images_per_second": 80, "peak_memory_mb": 5}}' ;;
esac
)");
    program("list", "echo 'cuda_graph: one of: auto, false'\n");
    program("run_gpu_tests", R"sh(echo "[       OK ] Gpu.Adds (20 ms)"
echo "[  SKIPPED ] Gpu.Joins (0 ms)"
echo "[  FAILED  ] Gpu.Divides/1, where GetParam() = 0 (30 ms)"
echo "[  FAILED  ] 1 test, listed below:"
exit 1
)sh");
    program("python", R"(case "$*" in
-c*) echo '{"mmseg": false, "gpu": "a GPU", "torch": "2.11.0"}' ;;
*) echo '{"step": {"seconds_per_step_median": 0.3, "images_per_second": 53, "peak_memory_mb": 20}}' ;;
esac
)");
  }
  CommandResult report(const std::string& options) const {
    return run_command("cd " + dir_.path().string() + " && python3 " +
                       source_path("tools/gpu_report") + " " + options);
  }
  nlohmann::json written() const { return nlohmann::json::parse(dir_.read("gpu_report.json")); }

  TempDir dir_;
};

TEST_F(GpuReport, PrintsItsPlanWithoutAGpu) {
  const std::string programs = fs::path(program_path("benchmark")).parent_path().string();
  const CommandResult result = report("--dry-run --programs " + programs);
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("  2.  40 s  " + program_path("benchmark")));
  std::istringstream words(result.output);
  size_t configs = 0;
  for (std::string word; words >> word;) {
    if (!word.ends_with(".yaml")) continue;
    EXPECT_TRUE(fs::exists(word)) << word;
    ++configs;
  }
  EXPECT_GE(configs, 12U) << result.output;
  EXPECT_FALSE(fs::exists(dir_ / "gpu_report.json"));
}

TEST_F(GpuReport, WritesEveryFigureAndGoesOnAfterFailures) {
  stand_in();
  const CommandResult result = report("--programs . --python ./python");
  ASSERT_EQ(result.status, 0) << result.output;
  const auto found = written();
  EXPECT_EQ(found["versions"]["segcore"], "segcore 1");
  EXPECT_EQ(found["versions"]["gpu"], "a GPU");
  const auto& tests = found["measurements"][0];
  EXPECT_EQ(tests["passed"], 1);
  EXPECT_THAT(tests["failed"], ElementsAre("Gpu.Divides/1"));
  EXPECT_THAT(tests["skipped"], ElementsAre("Gpu.Joins"));
  EXPECT_EQ(tests["problem"], "1 failed");
  size_t failed = 0, trained = 0, without_graph = 0;
  for (const auto& one : found["measurements"]) {
    if (one["what"] == "train") trained += one["found"]["share_waiting_for_data"] == 0.01 ? 1 : 0;
    without_graph += one.value("variant", "") == "cuda_graph=false" ? 1 : 0;
    if (one.value("model", "") != "Swin-T UPerNet") continue;
    EXPECT_EQ(one["problem"], "not enough GPU memory: 1 TB");
    ++failed;
  }
  EXPECT_GT(failed, 0U);
  EXPECT_EQ(trained, 2U);
  EXPECT_EQ(without_graph, 12U);
  const auto& ratio = found["ratios"][0];
  EXPECT_EQ(ratio["model"], "SegFormer-B0");
  EXPECT_EQ(ratio["beside"], "PyTorch");
  EXPECT_NEAR(ratio["times_as_fast"].get<double>(), 3, 1e-6);
  EXPECT_NEAR(ratio["memory"].get<double>(), 0.5, 1e-6);
  EXPECT_EQ(found["left_out"][0]["problem"],
            "PYTHON has no mmseg, and benchmark_torch.py has no such model");
  EXPECT_THAT(result.output, HasSubstr("SegFormer-B0 bf16 beside PyTorch: 3.00 times as fast"));
}

TEST_F(GpuReport, LeavesOutTheOptionThatAVersionDoesNotHave) {
  stand_in();
  program("list", "echo nothing\n");
  const CommandResult result = report("--programs . --python ./python --dry-run");
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.output, AllOf(HasSubstr("benchmark"), Not(HasSubstr("cuda_graph"))));
}

TEST_F(GpuReport, EndsInTime) {
  stand_in("case \"$*\" in *hr18*) sleep 100 ;; esac");
  const CommandResult result = report("--programs . --python ./python --minutes 0.2");
  ASSERT_EQ(result.status, 0) << result.output;
  const auto found = written();
  EXPECT_THAT(found["measurements"].back()["problem"].get<std::string>(),
              HasSubstr("not done after"));
  EXPECT_LT(found["seconds"], 30.0);
  EXPECT_THAT(found["left_out"].dump(), HasSubstr("no time was left"));
}

TEST_F(GpuReport, SaysWhatIsMissing) {
  EXPECT_THAT(report("--programs .").output, HasSubstr(" has no program 'benchmark': give "
                                                       "--programs, or use a package\n"));
  stand_in();
  program("python", "echo '{\"mmseg\": false, \"gpu\": null, \"torch\": null}'\n");
  const CommandResult result = report("--programs . --python ./python");
  if (result.status == 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(result.output,
            "gpu_report: no GPU: neither nvidia-smi nor PyTorch of ./python sees one; --dry-run "
            "prints the plan without one\n");
}

}  // namespace
}  // namespace seg::test
