#include <algorithm>

#include "runners/optim/schedule_of.hpp"

namespace seg {

struct ReduceOnPlateauScheduleParams : ParamSchedulerParams {
  std::string monitor = "loss";
  std::string rule = "less";
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  std::string threshold_rule = "rel";
  int64_t cooldown = 0;
  OneOrMany<double> min_value{{0.0}, false};
  double eps = 1e-8;
};

/// Its steps, which `begin` and `end` count, are epochs; it acts after validations.
class ReduceOnPlateauSchedule : public ParamScheduler {
 public:
  using Params = ReduceOnPlateauScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("A factor whenever a metric of validations no longer improves.")
        .include(ParamSchedulerParams::schema())
        .optional("monitor", &Params::monitor, "the metric, such as mIoU")
        .optional("rule", &Params::rule,
                  "whether the metric is better when less or greater; less by default, whatever "
                  "the metric",
                  one_of({"less", "greater"}))
        .optional("factor", &Params::factor, "the factor, below 1", at_least(0))
        .optional("patience", &Params::patience, "validations without improvement that pass first",
                  at_least(0))
        .optional("threshold", &Params::threshold, "the least change that counts as better",
                  at_least(0))
        .optional("threshold_rule", &Params::threshold_rule,
                  "whether that is a share of the best value (rel) or a difference (abs)",
                  one_of({"rel", "abs"}))
        .optional("cooldown", &Params::cooldown,
                  "validations after a reduction in which none counts as bad", at_least(0))
        .optional("min_value", &Params::min_value, "least value, or one for each parameter group")
        .optional("eps", &Params::eps, "a smaller reduction is not made", at_least(0))
        .validate([](const Params& p, Problems& problems) {
          if (p.factor >= 1) problems.error("factor", text("must be below 1, got ", p.factor));
          if (!p.by_epoch) problems.error("by_epoch", "must be true: it acts after validations");
          if (p.convert_to_iter_based) {
            problems.error("convert_to_iter_based", "must be false: it acts after validations");
          }
        });
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = ParamScheduler::facts(p);
    out.needs_metrics = true;
    return out;
  }

  void step() override { ++global_step_; }
  bool needs_metrics() const override { return true; }
  void check_metrics(const std::vector<std::string>& known) const override {
    if (std::ranges::find(known, p_.monitor) != known.end()) return;
    throw OptionError(
        "monitor", text("no metric is called '", p_.monitor, "'.", did_you_mean(p_.monitor, known),
                        " Known: ", join(known, ", ")));
  }
  void observe(const std::vector<std::pair<std::string, double>>& metrics) override {
    if (begin_ <= global_step_ && global_step_ < end_) {
      ++last_step_;
      const auto found =
          std::ranges::find(metrics, p_.monitor, &std::pair<std::string, double>::first);
      SEG_CHECK(found != metrics.end(), "the validation gave no ", p_.monitor);
      judge(found->second);
    }
    remember_values();
  }

  Value state_dict() const override {
    Value out = Value::dict();
    describe(out);
    write_range(out);
    return out;
  }
  void load_state_dict(const Value& state) override {
    best_ = state.at("best").as_float();
    bad_ = state.at("num_bad_epochs").as_int();
    cooling_ = state.at("cooldown_counter").as_int();
    last_step_ = state.at("last_step").as_int();
    global_step_ = state.at("_global_step").as_int();
    load_last_values(state);
  }

 protected:
  ReduceOnPlateauSchedule(const Params& p, const What& what, OptimWrapper& w,
                          const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), p_(p), best_(worst()), least_(p.min_value.values) {
    const size_t own = w.optimizer().groups().size();
    if (p.min_value.is_list && least_.size() != own) {
      throw OptionError("min_value", text("needs one value or ", own, " (parameter groups), got ",
                                          least_.size()));
    }
    // The group of the untouched options comes last.
    least_.resize(num_groups(), least_.back());
    global_step_ = 0;
    take_base_values();
    remember_values();
  }
  double next(size_t i, double value) override { return std::max(value * p_.factor, least_[i]); }
  void describe(Value& state) const override {
    Value least = Value::list();
    for (const double v : least_) least.push_back(v);
    state.set("factor", p_.factor);
    state.set("min_values", least);
    state.set("patience", p_.patience);
    state.set("cooldown", p_.cooldown);
    state.set("cooldown_counter", cooling_);
    state.set("rule_worse", worst());
    state.set("best", best_);
    state.set("num_bad_epochs", bad_);
    state.set("eps", p_.eps);
    state.set("monitor", p_.monitor);
    state.set("rule", p_.rule);
    state.set("threshold", p_.threshold);
    state.set("threshold_rule", p_.threshold_rule);
  }

 private:
  bool is_less() const { return p_.rule == "less"; }
  /// MMEngine's infinity.
  double worst() const { return is_less() ? 1e9 : -1e9; }
  bool better(double metric) const {
    const double change = is_less() ? -p_.threshold : p_.threshold;
    const double bound = p_.threshold_rule == "rel" ? best_ * (1 + change) : best_ + change;
    return is_less() ? metric < bound : metric > bound;
  }
  void judge(double metric) {
    if (better(metric)) {
      best_ = metric;
      bad_ = 0;
    } else {
      ++bad_;
    }
    if (cooling_ > 0) {
      --cooling_;
      bad_ = 0;
    }
    if (bad_ <= p_.patience) return;
    for (size_t i = 0; i < num_groups(); ++i) {
      const double now = value(i), reduced = next(i, now);
      if (now - reduced > p_.eps) set_value(i, reduced);
    }
    cooling_ = p_.cooldown;
    bad_ = 0;
  }

  Params p_;
  double best_;
  std::vector<double> least_;
  int64_t bad_ = 0, cooling_ = 0;
};

SEG_SCHEDULE(ReduceOnPlateauSchedule, ReduceOnPlateau);

}  // namespace seg
