/// Which runs of a sweep go on, and which wait.
#include <gtest/gtest.h>

#include "runners/sweep/asha.hpp"

namespace seg::test {
namespace {

SweepSpec asha_spec() {
  SweepSpec spec;
  spec.method = "asha";
  spec.asha = {.grace = 10, .eta = 2};
  return spec;
}

/// A run of 80 iterations that recorded these values every 10.
RunReport report(RunStatus status, int64_t rung, const std::vector<double>& values) {
  RunReport out;
  out.status = status;
  out.state.rung = rung;
  out.result.max_iters = 80;
  for (size_t i = 0; i < values.size(); ++i) {
    out.result.metrics.emplace_back(10 * static_cast<int64_t>(i + 1), values[i]);
  }
  return out;
}

TEST(Asha, RungsGrowByEta) {
  EXPECT_EQ(rungs_of(asha_spec(), 80), (std::vector<int64_t>{10, 20, 40}));
  EXPECT_EQ(rungs_of(asha_spec(), 81), (std::vector<int64_t>{10, 20, 40, 80}));
}

TEST(Asha, TheFirstWaitsAndTheBestOfTwoGoesOn) {
  using enum RunStatus;
  const AshaRule one(asha_spec(), {report(kRunning, 0, {50})});
  EXPECT_EQ(one.next_stop(0), 10);
  EXPECT_TRUE(one.reached(0));
  EXPECT_FALSE(one.promotable(0));
  const AshaRule two(asha_spec(), {report(kPaused, 0, {50}), report(kRunning, 0, {40})});
  EXPECT_FALSE(two.promotable(1));
  EXPECT_EQ(two.next_promotion(), 0u);
  const AshaRule better(asha_spec(), {report(kPaused, 0, {50}), report(kRunning, 0, {60})});
  EXPECT_TRUE(better.promotable(1));
  EXPECT_EQ(better.next_promotion(), std::nullopt);
}

TEST(Asha, LowerLossesAreBetter) {
  using enum RunStatus;
  SweepSpec spec = asha_spec();
  spec.metric = "loss";
  const AshaRule rule(spec, {report(kPaused, 0, {50}), report(kRunning, 0, {40})});
  EXPECT_TRUE(rule.promotable(1));
}

TEST(Asha, ComparesByTheValueOfTheRung) {
  using enum RunStatus;
  // The second went on, and is worse since; at the first rung it was better.
  const AshaRule rule(asha_spec(), {report(kPaused, 0, {50}), report(kRunning, 1, {60, 30})});
  EXPECT_EQ(rule.next_promotion(), std::nullopt);
  EXPECT_EQ(rule.next_stop(1), 20);
}

TEST(Asha, TheHighestRungIsPromotedFirst) {
  using enum RunStatus;
  const AshaRule rule(asha_spec(), {report(kPaused, 0, {70}), report(kPaused, 1, {60, 61}),
                                    report(kPaused, 1, {65, 62}), report(kFailed, 0, {10}),
                                    report(kPaused, 0, {20}), report(kPaused, 0, {30})});
  EXPECT_EQ(rule.next_promotion(), 2u);
}

TEST(Asha, WhenAllWaitTheBestTrainsToTheEnd) {
  using enum RunStatus;
  const std::vector<RunReport> paused{report(kPaused, 0, {70}), report(kPaused, 2, {60, 61, 0, 63}),
                                      report(kPaused, 0, {50})};
  EXPECT_EQ(AshaRule(asha_spec(), paused).last_promotion(), 1u);
  auto ended = paused;
  ended[1].status = kEnded;
  EXPECT_EQ(AshaRule(asha_spec(), ended).last_promotion(), std::nullopt);
  const AshaRule beyond(asha_spec(), {report(kRunning, 3, {1, 2, 3, 4})});
  EXPECT_EQ(beyond.next_stop(0), std::nullopt);
}

}  // namespace
}  // namespace seg::test
