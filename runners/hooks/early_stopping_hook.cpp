#include <algorithm>
#include <cmath>
#include <limits>

#include "registry/log.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/metric_rule.hpp"

namespace seg {

struct EarlyStoppingHookParams : HookParams {
  std::string monitor;
  std::optional<std::string> rule;
  double min_delta = 0.1;
  bool strict = false;
  bool check_finite = true;
  int64_t patience = 5;
  std::optional<double> stopping_threshold;
};

/// Ends training when a metric no longer gets better.
class EarlyStoppingHook final : public Hook {
 public:
  using Params = EarlyStoppingHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Ends training when a metric no longer improves.")
        .source("MMEngine 0.10, EarlyStoppingHook")
        .include(HookParams::schema())
        .required("monitor", &Params::monitor, "the metric to watch, such as mIoU")
        .optional("rule", &Params::rule,
                  "greater or less, whichever is better; known for common metrics",
                  one_of({"greater", "less"}))
        .optional("min_delta", &Params::min_delta, "the least change that counts as better",
                  at_least(0))
        .optional("strict", &Params::strict, "a missing metric is an error")
        .optional("check_finite", &Params::check_finite,
                  "also ends when the metric is NaN or infinite")
        .optional("patience", &Params::patience,
                  "validations without improvement before training ends", at_least(1))
        .optional("stopping_threshold", &Params::stopping_threshold,
                  "ends as soon as the metric passes it")
        .validate([](const Params& p, Problems& problems) {
          if (!p.rule &&
              !infer_metric_rule(p.monitor, default_greater_keys(), default_less_keys())) {
            problems.error("monitor", text("it is not known whether a higher or lower '", p.monitor,
                                           "' is better: set 'rule'.",
                                           did_you_mean(p.monitor, default_greater_keys())));
          }
        });
  }
  explicit EarlyStoppingHook(const Params& params)
      // Before checkpoints: that of a validation's step may be written anew after it, and then has
      // what this hook counted.
      : Hook(params, Priority::kLow),
        params_(params),
        greater_(rule_of(params) == "greater"),
        best_(greater_ ? -std::numeric_limits<double>::infinity()
                       : std::numeric_limits<double>::infinity()) {}

  /// A name that no validation will give is reported before hours of training.
  void check_metrics(const std::vector<std::string>& known) const override {
    if (std::find(known.begin(), known.end(), params_.monitor) != known.end()) return;
    if (params_.strict) throw OptionError("monitor", missing(known));
    warn_of_missing(known);
  }

  void after_val(const RunInfo&, const Progress&, const EvalResult& result,
                 RunControl& control) override {
    const double* found = find_scalar(result.metrics, params_.monitor);
    if (!found) {
      std::vector<std::string> names;
      for (const auto& [name, value] : result.metrics) names.push_back(name);
      if (params_.strict) throw DataError("EarlyStoppingHook: monitor: " + missing(names));
      warn_of_missing(names);
      return;
    }
    if (const std::string reason = reason_to_stop(*found); !reason.empty()) {
      log::info("training stops early: ", reason);
      control.stop();
    }
  }

  void save_state(Value& checkpoint) const override {
    if (const Value* own = checkpoint.find("segcore")) {
      Value state = Value::dict();
      state.set("best", best_);
      state.set("waited", waited_);
      Value hooks = own->at("hooks");
      hooks.set("EarlyStoppingHook." + params_.monitor, state);
    }
  }
  void load_state(Value& checkpoint) override {
    const Value* own = checkpoint.find("segcore");
    const Value* hooks = own ? own->find("hooks") : nullptr;
    if (const Value* state =
            hooks ? hooks->find("EarlyStoppingHook." + params_.monitor) : nullptr) {
      best_ = state->at("best").as_float();
      waited_ = state->at("waited").as_int();
    }
  }

 private:
  std::string missing(const std::vector<std::string>& known) const {
    return text("no metric is called '", params_.monitor, "'",
                params_.strict ? "" : ", so training will not stop early", ".",
                did_you_mean(params_.monitor, known), " Known: ", join(known, ", "));
  }
  /// Once: before training, or after the first validation where its names are not known before.
  void warn_of_missing(const std::vector<std::string>& known) const {
    if (std::exchange(warned_, true)) return;
    log::warn("EarlyStoppingHook: monitor: ", missing(known));
  }
  static std::string rule_of(const Params& params) {
    if (params.rule) return *params.rule;
    return infer_metric_rule(params.monitor, default_greater_keys(), default_less_keys())
        .value_or("greater");
  }
  bool better(double a, double b) const { return greater_ ? a > b : a < b; }

  std::string reason_to_stop(double score) {
    if (params_.check_finite && !std::isfinite(score)) {
      return text(params_.monitor, " is ", score, " (the best was ", best_, ")");
    }
    if (params_.stopping_threshold && better(score, *params_.stopping_threshold)) {
      best_ = score;
      return text(params_.monitor, " of ", score, " passes ", *params_.stopping_threshold);
    }
    const double delta = greater_ ? params_.min_delta : -params_.min_delta;
    if (better(best_ + delta, score)) {
      if (++waited_ >= params_.patience) {
        return text(params_.monitor, " did not improve in ", waited_,
                    waited_ == 1 ? " validation" : " validations", " (the best was ", best_, ")");
      }
    } else {
      best_ = score;
      waited_ = 0;
    }
    return "";
  }

  Params params_;
  bool greater_;
  double best_;
  int64_t waited_ = 0;
  mutable bool warned_ = false;
};
SEG_REGISTER(Hook, EarlyStoppingHook);

}  // namespace seg
