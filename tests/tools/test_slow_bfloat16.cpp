/// Mixed precision on a CPU that has no instructions for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/nn/slow_bfloat16.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ContainsRegex;

TEST(SlowBfloat16, TrainWarnsWithTheRatio) {
  if (has_bfloat16_instructions("AVX2")) GTEST_SKIP() << "not known of this CPU";
  const TempDir dir;
  const CommandResult result =
      run_command("OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 " + program_path("train") + " " +
                  dir.write("tiny.yaml", tiny_run_yaml()) + " --amp --work-dir " + (dir / "w") +
                  " --cfg-options train_cfg.max_iters=1 train_cfg.val_interval=1");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output,
              ContainsRegex("WARNING - mixed precision: this CPU has no instructions for bfloat16 "
                            "\\(avx512_bf16 or amx_bf16\\), in which a convolution takes [0-9.]+ "
                            "times as long as in float32\\. Train without --amp"));
}

}  // namespace
}  // namespace seg::test
