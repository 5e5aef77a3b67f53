/// tools/package: a folder that runs wherever it is moved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Package, RunsWhereItIsMovedTo) {
  const fs::path build = fs::path(program_path("train")).parent_path().parent_path();
  if (fs::weakly_canonical(build.parent_path()) != fs::weakly_canonical(source_path("build"))) {
    GTEST_SKIP() << "this build is in no folder that tools/package knows";
  }
  if (run_command("command -v patchelf").status != 0) GTEST_SKIP() << "no patchelf";
  const CommandResult libraries = run_command("ldd " + program_path("train"));
  if (libraries.output.find("libasan") != std::string::npos ||
      libraries.output.find("libtsan") != std::string::npos) {
    GTEST_SKIP() << "builds with sanitizers are not for other machines";
  }
  const std::string torch =
      run_command("ldd " + program_path("train") + " | awk '$1 == \"libtorch_cpu.so\" {print $3}'")
          .output;
  const std::string libtorch = fs::path(torch).parent_path().parent_path().string();

  const TempDir dir;
  const CommandResult made = run_command(source_path("tools/package") + " " + dir / "made" +
                                         " --preset " + build.filename().string());
  ASSERT_EQ(made.status, 0) << made.output;
  fs::rename(dir / "made", dir / "moved");
  const auto run = [&](const std::string& command) {
    return run_command("cd / && env -u LD_LIBRARY_PATH LIBTORCH=" + libtorch + " " +
                       dir / ("moved/" + command));
  };
  const CommandResult checked =
      run("print_config --check " + dir / "moved/configs/quickstart.yaml");
  EXPECT_EQ(checked.status, 0) << checked.output;
  EXPECT_THAT(run("list SegformerHead").output, HasSubstr("SegformerHead"));
  // None of its libraries is searched for in the build folder.
  const CommandResult found = run_command("LD_LIBRARY_PATH=" + libtorch + "/lib ldd " +
                                          dir / "moved/bin/train" + " " + dir / "moved/lib/*.so");
  EXPECT_THAT(found.output, Not(HasSubstr(build.string())));
  EXPECT_THAT(found.output, HasSubstr(dir / "moved/lib/libsegcore.so"));

  const CommandResult again = run_command(source_path("tools/package") + " " + dir / "moved");
  EXPECT_EQ(again.status, 1);
  EXPECT_EQ(again.output, "tools/package: '" + dir / "moved" + "' is not empty\n");
  const CommandResult without = run_command(
      "cd / && env -u LD_LIBRARY_PATH PATH=/bin LIBTORCH=/none " + dir / "moved/train" + " x.yaml");
  EXPECT_EQ(without.status, 1);
  EXPECT_THAT(without.output, HasSubstr("no LibTorch 2.11 found: set LIBTORCH"));
}

}  // namespace
}  // namespace seg::test
