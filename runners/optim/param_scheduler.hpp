/// The interface of schedules of learning rate and momentum, with the recursive arithmetic of
/// MMEngine: each changes the value that it finds, so that several can act in turn.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "registry/registry.hpp"
#include "runners/optim/optim_wrapper.hpp"

namespace seg {

/// The `end` of a schedule that acts for ever, as MMEngine writes it.
inline constexpr int64_t kScheduleForever = 1'000'000'000;

/// The length of the run that a schedule acts in.
struct ScheduleLength {
  int64_t max_iters = 0;
  int64_t max_epochs = 0;    ///< 1 in a loop that counts iterations
  int64_t epoch_length = 0;  ///< iterations
};

/// Options that all schedules have.
struct ParamSchedulerParams {
  int64_t begin = 0;
  std::optional<int64_t> end;  ///< null: the end of the run
  int64_t last_step = -1;
  bool by_epoch = true;
  bool convert_to_iter_based = false;
  bool verbose = false;
  static Schema<ParamSchedulerParams> schema();
};

/// What is known of a schedule before it is built.
struct ParamSchedulerFacts {
  int64_t begin = 0;
  std::optional<int64_t> end;
  bool by_epoch = true;
  std::vector<int64_t> milestones;
  bool ends_at_zero = false;  ///< leaves a learning rate of 0 behind
  bool needs_metrics = false;
};

/// Sets an option of all groups, once at construction and then at each step.
class ParamScheduler {
 public:
  static ParamSchedulerFacts facts(const ParamSchedulerParams& p) {
    return {.begin = p.begin, .end = p.end, .by_epoch = p.by_epoch};
  }
  virtual ~ParamScheduler() = default;
  ParamScheduler(const ParamScheduler&) = delete;
  ParamScheduler& operator=(const ParamScheduler&) = delete;

  /// After an iteration, or after an epoch where `by_epoch()`.
  virtual void step();
  bool by_epoch() const { return by_epoch_; }
  /// Whether it depends on validations instead: then `observe` is called after each.
  virtual bool needs_metrics() const { return false; }
  virtual void observe(const std::vector<std::pair<std::string, double>>& /*metrics*/) {}
  /// Before training, with the names that the metrics of validations will have.
  /// \throws OptionError where an option names another.
  virtual void check_metrics(const std::vector<std::string>& /*known*/) const {}

  /// As mmengine saves it; counters and base values are taken back, options are the config's.
  virtual Value state_dict() const;
  /// \throws CheckpointError
  virtual void load_state_dict(const Value& state);
  /// Moves to the position in this schedule after this number of steps, which may have been counted
  /// in another range. Values change with the next step only.
  void set_steps_done(int64_t steps);

 protected:
  /// The option of the groups that a schedule changes.
  struct What {
    std::string name;  ///< "lr"
    /// "momentum" by its own name, or the first of `betas`.
    bool is_momentum = false;
  };
  ParamScheduler(const ParamSchedulerParams& params, What what, OptimWrapper& wrapper,
                 const ScheduleLength& length);
  /// Makes the first step; called at the end of a derived constructor.
  void start();
  /// Remembers the values that the schedule began with, in the groups.
  void take_base_values();
  void remember_values();
  void load_last_values(const Value& state);
  /// The new value of a group from its present one.
  virtual double next(size_t group, double value) = 0;
  /// Adds the options to the state, for other programs.
  virtual void describe(Value& state) const = 0;

  double value(size_t group) const;
  void set_value(size_t group, double value);
  size_t num_groups() const { return groups_.size(); }
  ParamGroup& group(size_t i) { return *groups_[i]; }
  const std::string& param_name() const { return what_.name; }
  bool verbose() const { return verbose_; }
  void write_range(Value& state) const;
  /// Iterations that one unit of the config's steps has: epoch_length when converted, else 1.
  int64_t unit() const { return unit_; }

  int64_t begin_, end_;
  /// `last_step_` counts the steps in [begin_, end_), `global_step_` all; both from -1 on.
  int64_t last_step_, global_step_ = -1;
  std::vector<double> base_values_;

 private:
  What what_;
  bool by_epoch_, verbose_;
  int64_t unit_, first_last_step_;
  std::vector<ParamGroup*> groups_;
  std::vector<double> last_value_;
};

template <>
struct Category<ParamScheduler> {
  static constexpr std::string_view name = "param_scheduler";
  using Signature = std::unique_ptr<ParamScheduler>(OptimWrapper&, const ScheduleLength&);
  using Facts = ParamSchedulerFacts;
};

}  // namespace seg
