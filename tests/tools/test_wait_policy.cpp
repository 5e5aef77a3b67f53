/// Threads of programs soon sleep while they wait, unless the user chose otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// What OpenMP says of its settings, and the program after it.
CommandResult with_settings(const std::string& environment, const std::string& words) {
  return run_command("env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT " + environment +
                     " OMP_DISPLAY_ENV=verbose " + program_path("list") + " " + words);
}

TEST(WaitPolicy, IsToSleepSoon) {
  // With the variables of shells that make room for it, with one of them and with none.
  for (const char* environment : {"_=/bin/list SHLVL=1", "-u _ SHLVL=1", "-u SHLVL -u _"}) {
    const CommandResult result = with_settings(environment, "--version");
    EXPECT_EQ(result.status, 0) << environment;
    EXPECT_THAT(result.output, HasSubstr("OMP_WAIT_POLICY = 'PASSIVE'")) << environment;
    EXPECT_THAT(result.output, HasSubstr("GOMP_SPINCOUNT = '2500'")) << environment;
    EXPECT_THAT(result.output, HasSubstr("segcore ")) << environment;
  }
}

TEST(WaitPolicy, OfTheUserStays) {
  EXPECT_THAT(with_settings("OMP_WAIT_POLICY=active", "--version").output,
              HasSubstr("OMP_WAIT_POLICY = 'ACTIVE'"));
  EXPECT_THAT(with_settings("GOMP_SPINCOUNT=1234", "--version").output,
              HasSubstr("GOMP_SPINCOUNT = '1234'"));
}

TEST(WaitPolicy, KeepsArgumentsAndOutput) {
  const CommandResult result = run_command("env -u OMP_WAIT_POLICY " + program_path("list") +
                                           " 'decode head' --no-such-option=' a \"b\"' 2>&1");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("list: there is no option --no-such-option"));
}

TEST(WaitPolicy, IsLeftAloneWhereALoaderStartsTheProgram) {
  const std::string loader = "/lib64/ld-linux-x86-64.so.2";
  if (::access(loader.c_str(), X_OK) != 0) GTEST_SKIP() << "there is no " << loader;
  const CommandResult result =
      run_command("env -u OMP_WAIT_POLICY " + loader + " " + program_path("list") + " --version");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("segcore "));
}

}  // namespace
}  // namespace seg::test
