#include "runners/train/length.hpp"

#include <algorithm>
#include <array>

namespace seg {
namespace {

/// Validates every `interval`, which changes at milestones, from `begin` on and at the end.
bool is_validation_step(int64_t step, int64_t last, int64_t begin, int64_t interval,
                        const std::vector<std::array<int64_t, 2>>& dynamic_intervals) {
  for (const auto& [milestone, later] : dynamic_intervals) {
    if (step + 1 >= milestone) interval = later;
  }
  return step >= begin && (step == last || (interval > 0 && step % interval == 0));
}

void check_milestones(const std::vector<std::array<int64_t, 2>>& dynamic_intervals,
                      Problems& problems) {
  for (size_t i = 0; i < dynamic_intervals.size(); ++i) {
    if (i > 0 && dynamic_intervals[i][0] <= dynamic_intervals[i - 1][0]) {
      problems.error("dynamic_intervals", "milestones must rise");
    }
    if (dynamic_intervals[i][1] < 1) {
      problems.error("dynamic_intervals", "an interval must be at least 1");
    }
  }
}

}  // namespace

struct IterBasedTrainLoopParams {
  int64_t max_iters = 0;
  int64_t val_begin = 1;
  int64_t val_interval = 1000;
  std::optional<std::vector<std::array<int64_t, 2>>> dynamic_intervals;
};

class IterBasedTrainLoop final : public TrainLength {
 public:
  using Params = IterBasedTrainLoopParams;
  static Schema<Params> schema() {
    return Schema<Params>("Trains for a number of iterations.")
        .source("MMEngine 0.10, IterBasedTrainLoop")
        .required("max_iters", &Params::max_iters, "training steps in all", at_least(1))
        .optional("val_begin", &Params::val_begin, "no validation before this step", at_least(0))
        .optional("val_interval", &Params::val_interval, "steps between validations", at_least(1))
        .optional("dynamic_intervals", &Params::dynamic_intervals,
                  "[milestone, interval] pairs: from a milestone on, validate at that interval")
        .accepted("by_epoch", "given by the type")
        .validate([](const Params& p, Problems& problems) {
          if (p.dynamic_intervals) check_milestones(*p.dynamic_intervals, problems);
        });
  }
  static TrainLengthFacts facts(const Params& p) { return {.max_iters = p.max_iters}; }
  explicit IterBasedTrainLoop(const Params& params) : params_(params) {}
  int64_t max_iters(int64_t) const override { return params_.max_iters; }
  int64_t max_epochs() const override { return 1; }
  bool by_epoch() const override { return false; }
  bool validates_after(int64_t iter, int64_t) const override {
    return is_validation_step(
        iter, params_.max_iters, params_.val_begin, params_.val_interval,
        params_.dynamic_intervals.value_or(std::vector<std::array<int64_t, 2>>{}));
  }

 private:
  Params params_;
};
SEG_REGISTER(TrainLength, IterBasedTrainLoop);

struct EpochBasedTrainLoopParams {
  int64_t max_epochs = 0;
  int64_t val_begin = 1;
  int64_t val_interval = 1;
  std::optional<std::vector<std::array<int64_t, 2>>> dynamic_intervals;
};

class EpochBasedTrainLoop final : public TrainLength {
 public:
  using Params = EpochBasedTrainLoopParams;
  static Schema<Params> schema() {
    return Schema<Params>("Trains for a number of passes over the data set.")
        .source("MMEngine 0.10, EpochBasedTrainLoop")
        .required("max_epochs", &Params::max_epochs, "passes over the data set", at_least(1))
        .optional("val_begin", &Params::val_begin, "no validation before this epoch", at_least(0))
        .optional("val_interval", &Params::val_interval, "epochs between validations", at_least(1))
        .optional("dynamic_intervals", &Params::dynamic_intervals,
                  "[milestone, interval] pairs: from a milestone on, validate at that interval")
        .accepted("by_epoch", "given by the type")
        .validate([](const Params& p, Problems& problems) {
          if (p.dynamic_intervals) check_milestones(*p.dynamic_intervals, problems);
        });
  }
  static TrainLengthFacts facts(const Params& p) { return {.max_epochs = p.max_epochs}; }
  explicit EpochBasedTrainLoop(const Params& params) : params_(params) {}
  int64_t max_iters(int64_t epoch_length) const override {
    return params_.max_epochs * epoch_length;
  }
  int64_t max_epochs() const override { return params_.max_epochs; }
  bool by_epoch() const override { return true; }
  bool validates_after(int64_t iter, int64_t epoch_length) const override {
    return iter % epoch_length == 0 &&
           is_validation_step(
               iter / epoch_length, params_.max_epochs, params_.val_begin, params_.val_interval,
               params_.dynamic_intervals.value_or(std::vector<std::array<int64_t, 2>>{}));
  }

 private:
  Params params_;
};
SEG_REGISTER(TrainLength, EpochBasedTrainLoop);

}  // namespace seg
