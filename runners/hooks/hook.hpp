/// What happens around the steps of a run: timing, logging, schedules, checkpoints.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "registry/registry.hpp"
#include "segcore/io/value.hpp"

namespace seg {

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
/// `RunContext::phase` says whose step it is; a test runs as a validation of phase kTest. An epoch
/// ends with the after_iter whose `RunContext::end_of_epoch` is set.
class Hook {
 public:
  virtual ~Hook() = default;
  virtual void before_train(RunContext&) {}
  virtual void before_iter(RunContext&) {}
  virtual void after_iter(RunContext&) {}
  virtual void before_val(RunContext&) {}
  virtual void after_val(RunContext&) {}
  virtual void after_train(RunContext&) {}
  /// Adds to a checkpoint what a resumed run needs; may change what stands in it.
  virtual void save_state(RunContext&, Value& /*checkpoint*/) {}
  /// Takes it back. Called when a run is resumed, before the weights are loaded, and not for
  /// `load_from`.
  virtual void load_state(RunContext&, Value& /*checkpoint*/) {}
  virtual Priority default_priority() const { return Priority::kNormal; }
  /// The registered name, for the list at the start of a log and for saved states.
  virtual std::string_view name() const = 0;
};

template <>
struct Category<Hook> {
  static constexpr std::string_view name = "hook";
  using Signature = std::unique_ptr<Hook>();
};

/// "NORMAL" or a number of 0 to 100, as configs give priorities; negative for neither.
int parse_priority(std::string_view text);
/// "VERY_HIGH" for 10; the number for others.
std::string priority_text(int priority);

}  // namespace seg
