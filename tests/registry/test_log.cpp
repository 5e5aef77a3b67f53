#include "registry/log.hpp"

#include <gtest/gtest.h>

#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "registry/error.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

class Log : public ::testing::Test {
 protected:
  ~Log() override {
    log::open_file("");
    log::set_level("INFO");
    log::set_rank(0);
  }
  static bool matches(const std::string& s, const std::string& pattern) {
    return std::regex_match(s, std::regex(pattern));
  }
  test::TempDir dir_;
};

TEST_F(Log, WritesLinesAsTheConventionsSay) {
  ::testing::internal::CaptureStdout();
  log::open_file(dir_ / "a.log");
  log::info("loss ", 1.5);
  log::warn("two\nlines");
  log::error("x");
  log::debug("not shown");
  const std::string date = R"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d - segcore - )";
  EXPECT_TRUE(matches(dir_.read("a.log"), date + "INFO - loss 1.5\n" + date +
                                              "WARNING - two\nlines\n" + date + "ERROR - x\n"))
      << dir_.read("a.log");
  const std::string time = R"(\d\d/\d\d \d\d:\d\d:\d\d - segcore - )";
  const std::string console = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(matches(
      console, time + "INFO - loss 1.5\n" + time + "WARNING - two\nlines\n" + time + "ERROR - x\n"))
      << console;
}

TEST_F(Log, AppendsToAnExistingFile) {
  ::testing::internal::CaptureStdout();
  dir_.write("a.log", "before\n");
  log::open_file(dir_ / "a.log");
  log::info("after");
  log::open_file("");
  log::info("not in the file");
  ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(matches(dir_.read("a.log"), "before\n.* - INFO - after\n"));
}

TEST_F(Log, ObeysLevelAndRank) {
  ::testing::internal::CaptureStdout();
  log::open_file(dir_ / "a.log");
  EXPECT_TRUE(log::set_level("ERROR"));
  log::warn("quiet");
  EXPECT_TRUE(log::set_level("DEBUG"));
  EXPECT_FALSE(log::set_level("LOUD"));
  log::debug("1");
  log::set_rank(1);
  log::info("quiet");
  log::warn("2");
  ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(matches(dir_.read("a.log"), ".*DEBUG - 1\n.*INFO - quiet\n.*WARNING - 2\n"))
      << dir_.read("a.log");
}

TEST_F(Log, HeldRecordsComeIntoTheFileInTheirPlace) {
  ::testing::internal::CaptureStdout();
  {
    log::Held held;
    log::info("kept 1");
    log::debug("kept 2");
    held.stop();
    log::open_file(dir_ / "a.log");
    log::info("before");
    held.release();
    log::info("after");
  }
  EXPECT_TRUE(matches(dir_.read("a.log"), ".*before\n.*INFO - kept 1\n.*after\n"))
      << dir_.read("a.log");
  log::open_file("");
  {
    const log::Held held;
    log::warn("at the end");
  }
  EXPECT_TRUE(matches(::testing::internal::GetCapturedStdout(),
                      ".*before\n.*kept 1\n.*after\n.*at the end\n"));
}

TEST_F(Log, KeepsRecordsOfThreadsWhole) {
  ::testing::internal::CaptureStdout();
  log::open_file(dir_ / "a.log");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) log::info("a ", t, "\nb ", t);
    });
  }
  for (auto& thread : threads) thread.join();
  ::testing::internal::GetCapturedStdout();
  std::istringstream lines(dir_.read("a.log"));
  int records = 0;
  for (std::string first, second; std::getline(lines, first) && std::getline(lines, second);) {
    EXPECT_NE(first.find(" - INFO - a "), std::string::npos) << first;
    EXPECT_EQ(second, std::string("b ") + first.back());
    ++records;
  }
  EXPECT_EQ(records, 200);
}

TEST_F(Log, ReportsAFileThatCannotBeWritten) {
  dir_.write("file", "");
  try {
    log::open_file(dir_ / "file/a.log");
    FAIL();
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()).rfind("cannot write the log file '" + (dir_ / "file/a.log"), 0),
              0u)
        << e.what();
  }
}

}  // namespace
}  // namespace seg
