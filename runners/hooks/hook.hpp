/// What happens around the steps of a run: timing, logging, schedules, checkpoints.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/io/value.hpp"

namespace seg {

struct RunConfig;
struct RunContext;

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

/// Called by the loop at its stages:
///
///     before_train
///     while (iter < max_iters) {
///       batch = loader.next();
///       before_iter;  loss, backward, optimizer step;  ++iter;  after_iter
///       if (validates_after(iter)) {
///         before_val
///         for (batch : val_loader) { before_iter;  predict, count;  after_iter }
///         metrics;  after_val
///       }
///     }
///     after_train
///
/// A signal ends the loop after a step or a validation with on_stop, and without after_train.
/// `RunContext::phase` says whose step it is; a test runs as a validation of phase kTest. An epoch
/// ends with the after_iter whose `RunContext::end_of_epoch` is set.
class Hook {
 public:
  Hook(const HookParams& params, Priority usual);
  virtual ~Hook() = default;
  virtual void before_train(RunContext&) {}
  virtual void before_iter(RunContext&) {}
  virtual void after_iter(RunContext&) {}
  virtual void before_val(RunContext&) {}
  virtual void after_val(RunContext&) {}
  virtual void after_train(RunContext&) {}
  virtual void on_stop(RunContext&) {}
  /// Adds to a checkpoint what a resumed run needs; may change what stands in it.
  virtual void save_state(RunContext&, Value& /*checkpoint*/) {}
  /// Takes it back. Called when a run is resumed, before the weights are loaded, and not for
  /// `load_from`.
  virtual void load_state(RunContext&, Value& /*checkpoint*/) {}
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

/// Builds the hooks of a run: the roles of `default_hooks` and `custom_hooks`, by priority.
std::vector<HookEntry> build_hooks(const RunConfig& config);

/// "VERY_HIGH" for 10; the number for others.
std::string priority_text(int priority);

}  // namespace seg
