#include "runners/train/length.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/config_errors.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> validations(const std::string& yaml, int64_t epoch_length) {
  const auto loop = Spec<TrainLength>::of(yaml).build();
  std::vector<int64_t> out;
  for (int64_t i = 1; i <= loop->max_iters(epoch_length); ++i) {
    if (loop->validates_after(i, epoch_length)) out.push_back(i);
  }
  return out;
}

TEST(Loops, ValidateAtIntervalsAndAtTheEnd) {
  EXPECT_THAT(validations("{type: IterBasedTrainLoop, max_iters: 10, val_interval: 4}", 3),
              ElementsAre(4, 8, 10));
  EXPECT_THAT(
      validations("{type: IterBasedTrainLoop, max_iters: 10, val_interval: 4, val_begin: 5}", 3),
      ElementsAre(8, 10));
  EXPECT_THAT(validations("{type: EpochBasedTrainLoop, max_epochs: 3, val_interval: 2}", 5),
              ElementsAre(10, 15));
}

TEST(Loops, ChangeTheIntervalAtMilestones) {
  // As MMEngine: the interval changes as soon as the next step reaches the milestone.
  EXPECT_THAT(validations("{type: IterBasedTrainLoop, max_iters: 12, val_interval: 5, "
                          "dynamic_intervals: [[8, 2]]}",
                          1),
              ElementsAre(5, 8, 10, 12));
}

TEST(Loops, ReportWrongOptions) {
  EXPECT_EQ(spec_error<TrainLength>("{type: IterBasedTrainLoop, max_iter: 4}"),
            "<default>:1:28: error: IterBasedTrainLoop has no option 'max_iter'. Did you mean "
            "'max_iters'? Known: max_iters, val_begin, val_interval, dynamic_intervals, by_epoch\n"
            "<default>:1:1: error: IterBasedTrainLoop needs 'max_iters' (int): training steps in "
            "all\n2 errors in the configuration");
}

}  // namespace
}  // namespace seg::test
