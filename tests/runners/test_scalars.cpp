#include "runners/log/scalars.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/log/log_processor.hpp"
#include "segcore/torch.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;

TEST(ScalarHistory, GivesStatisticsOfTheLastValues) {
  ScalarHistory history(3);
  for (const double v : {8.0, 1.0, 2.0, 6.0}) history.record("loss", v);
  EXPECT_EQ(history.current("loss"), 6);
  EXPECT_EQ(history.mean("loss", 0), 3);  // the first has dropped out
  EXPECT_EQ(history.mean("loss", 2), 4);
  EXPECT_EQ(history.min("loss", 3), 1);
  EXPECT_EQ(history.max("loss", 2), 6);
  EXPECT_TRUE(history.has("loss"));
  EXPECT_FALSE(history.has("lr"));
}

TEST(ScalarHistory, KeepsTheOrderOfAppearanceAndSurvivesSaving) {
  ScalarHistory history(10);
  history.record("lr", 0.1);
  history.record("loss", torch::tensor(0.25f));
  history.record("lr", 0.05);
  ScalarHistory other(10);
  other.load_state(history.state());
  EXPECT_THAT(other.names(), ElementsAre("lr", "loss"));
  EXPECT_EQ(other.mean("lr", 0), history.mean("lr", 0));
  EXPECT_EQ(other.current("loss"), 0.25);
}

TEST(LogProcessor, WritesDurationsAsPythonDoes) {
  EXPECT_EQ(duration_text(0.9), "0:00:00");
  EXPECT_EQ(duration_text(3671), "1:01:11");
  EXPECT_EQ(duration_text(86400), "1 day, 0:00:00");
  EXPECT_EQ(duration_text(2 * 86400 + 45296), "2 days, 12:34:56");
}

}  // namespace
}  // namespace seg::test
