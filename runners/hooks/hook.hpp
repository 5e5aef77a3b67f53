/// What happens around the steps of a run: timing, logging, schedules, checkpoints.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "registry/registry.hpp"
#include "runners/checkpoint/part.hpp"
#include "runners/hooks/stage.hpp"
#include "runners/start/run_info.hpp"
#include "runners/train/progress.hpp"

namespace seg {

struct LogProcessorParams;
struct Records;
class OptimWrapper;
class ParamScheduler;
class Segmentor;
class Visualizer;

/// Smaller comes first; hooks of one priority keep the order of the config.
enum class Priority {
  kHighest = 0,
  kVeryHigh = 10,
  kHigh = 30,
  kAboveNormal = 40,
  kNormal = 50,
  kBelowNormal = 60,
  kLow = 70,
  kVeryLow = 90,
  kLowest = 100,
};

/// The options that all hooks have.
struct HookParams {
  /// 0 to 100, or a name of `Priority` as "BELOW_NORMAL"; the hook's own where not given.
  std::optional<std::variant<int64_t, std::string>> priority;
  static Schema<HookParams> schema();
};

/// The parts of a run that hooks act on. Borrowed; they outlive the hooks.
struct HookTargets {
  Segmentor* model = nullptr;
  Records* records = nullptr;
  Visualizer* visualizer = nullptr;
  const LogProcessorParams* log_processor = nullptr;
  // Null in a test:
  OptimWrapper* optimizer = nullptr;
  std::vector<std::unique_ptr<ParamScheduler>>* schedulers = nullptr;
};

/// Called by training at its stages:
///
///     check_metrics;  attach;  before_train
///     while (iter < max_iters) {
///       batch = loader.next();
///       before_train_iter;  forward, backward;  after_backward;  update;  ++iter; after_train_iter
///       if (validation due) {
///         before_val;  evaluation;  after_val
///       }
///     }
///     after_train
///
/// and by an evaluation, in a validation and in a test:
///
///     before_eval
///     for (batch : loader) { before_eval_iter;  predict, count;  after_eval_iter }
///     metrics;  after_eval
///
/// A test ends with after_test. A signal ends training after a step or a validation with on_stop,
/// and without after_train; a validation that it interrupts has neither after_eval nor after_val.
class Hook : public CheckpointPart {
 public:
  Hook(const HookParams& params, Priority usual);
  /// Before everything else, with the names that the metrics of validations will have.
  /// \throws OptionError where an option of the hook names another.
  virtual void check_metrics(const std::vector<std::string>& /*known*/) const {}
  /// Before training or a test, once.
  virtual void attach(const HookTargets&) {}

  virtual void before_train(const RunInfo&, const Progress&) {}
  virtual void before_train_iter(const RunInfo&, const Progress&) {}
  /// Gradients are summed over this step; averaged over the processes only in steps that update
  /// the weights. Under a loss scale they are still multiplied by it.
  virtual void after_backward(const RunInfo&, const Progress&) {}
  virtual void after_train_iter(const RunInfo&, const Progress&, const StepResult&, RunControl&) {}
  virtual void before_val(const RunInfo&, const Progress&) {}
  virtual void after_val(const RunInfo&, const Progress&, const EvalResult&, RunControl&) {}
  virtual void after_train(const RunInfo&, const Progress&) {}
  virtual void on_stop(const RunInfo&, const Progress&, RunControl&) {}

  virtual void before_eval(const RunInfo&, const EvalInfo&) {}
  virtual void before_eval_iter(const RunInfo&, const EvalInfo&) {}
  virtual void after_eval_iter(const RunInfo&, const Progress&, const EvalInfo&, const EvalStep&) {}
  virtual void after_eval(const RunInfo&, const Progress&, const EvalInfo&, const EvalResult&) {}
  virtual void after_test(const RunInfo&, const Progress&, const EvalResult&) {}

  /// Whether it ends a run whose loss is not finite: one such hook is enough.
  virtual bool checks_loss() const { return false; }
  /// Whether a test joins the augmentations that its data come in.
  virtual bool joins_augmentations() const { return false; }
  int priority() const { return priority_; }

 private:
  int priority_;
};

template <>
struct Category<Hook> {
  static constexpr std::string_view name = "hook";
  using Signature = std::unique_ptr<Hook>();
};

/// A hook of a run under its registered name.
struct HookEntry {
  std::string type;
  std::unique_ptr<Hook> hook;
};

/// The hooks of a run in the order in which they are called.
class Hooks {
 public:
  Hooks() = default;
  explicit Hooks(std::vector<HookEntry> entries);

  /// Calls one stage of all: hooks.call(&Hook::before_train, run, progress).
  template <class Class, class Result, class... Parameters, class... Arguments>
  void call(Result (Class::*stage)(Parameters...), Arguments&&... arguments) {
    for (HookEntry& entry : entries_) ((*entry.hook).*stage)(arguments...);
  }
  template <class Class, class Result, class... Parameters, class... Arguments>
  void call(Result (Class::*stage)(Parameters...) const, Arguments&&... arguments) const {
    for (const HookEntry& entry : entries_) ((*entry.hook).*stage)(arguments...);
  }
  std::vector<CheckpointPart*> checkpoint_parts() const;
  const std::vector<HookEntry>& entries() const { return entries_; }
  /// One line per hook, for the log.
  std::string listing() const;

 private:
  std::vector<HookEntry> entries_;
};

/// Names of the default hooks' roles with the type that each has where a config names none.
const std::vector<std::pair<std::string, std::string>>& default_hook_roles();

/// Builds the roles of `default_hooks` and those of `custom_hooks`.
/// \param roles  null switches a role off; those left out take MMEngine's defaults.
Hooks build_hooks(const std::map<std::string, std::optional<Spec<Hook>>>& roles,
                  const std::vector<Spec<Hook>>& custom);

}  // namespace seg
