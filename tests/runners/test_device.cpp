#include "runners/start/device.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "registry/error.hpp"
#include "runners/dist/process_group.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"

namespace seg::test {
namespace {

TEST(Device, AProcessGroupOnGpusWithoutNcclReportsWhatIsMissing) {
  if (load_cuda()) GTEST_SKIP() << "there is a GPU";
  const Rendezvous place{.size = 2, .backend = "nccl", .device = c10::Device(c10::kCUDA, 0)};
  try {
    join_process_group(place);
    FAIL() << "joined";
  } catch (const UsageError& e) {
    EXPECT_STREQ(e.what(),
                 "several processes on GPUs need NCCL, which is not at hand: no GPU is used. Write "
                 "env_cfg.dist_cfg.backend: gloo, which is slower, or train with one process");
  }
}

// Without a GPU nothing loads the library, but what it needs of LibTorch can be looked up.
TEST(Device, TheCudaLibraryFindsAllItsSymbols) {
  const std::string library = program_path("../libsegcore_cuda.so");
  if (!std::filesystem::exists(library)) GTEST_SKIP() << "built without a CUDA tool kit";
  const auto checked = run_command("ldd -r " + library);
  EXPECT_EQ(checked.status, 0);
  EXPECT_THAT(checked.output, ::testing::HasSubstr("libtorch_cuda.so"));
  EXPECT_THAT(checked.output, ::testing::Not(::testing::HasSubstr("undefined symbol")));
  EXPECT_THAT(checked.output, ::testing::Not(::testing::HasSubstr("not found")));
}

}  // namespace
}  // namespace seg::test
