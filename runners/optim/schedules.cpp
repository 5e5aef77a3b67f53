// The schedules of MMEngine, each for the learning rate (StepLR), for the momentum (StepMomentum).
#include <cmath>
#include <map>
#include <numbers>

#include "runners/optim/schedule_of.hpp"

namespace seg {

// The value of a step follows from that of the step before, which another schedule may have
// changed in between.

struct ConstantScheduleParams : ParamSchedulerParams {
  double factor = 1.0 / 3;
};

class ConstantSchedule : public ParamScheduler {
 public:
  using Params = ConstantScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("A factor until the end, where it is undone.")
        .include(ParamSchedulerParams::schema())
        .optional("factor", &Params::factor, "the factor", in_range(0, 1));
  }

 protected:
  ConstantSchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), factor_(p.factor), total_(end_ - begin_ - 1) {
    start();
  }
  double next(size_t, double value) override {
    if (last_step_ == 0) return value * factor_;
    return last_step_ == total_ ? value * (1.0 / factor_) : value;
  }
  void describe(Value& state) const override {
    state.set("factor", factor_);
    state.set("total_iters", total_);
  }

 private:
  double factor_;
  int64_t total_;
};

struct LinearScheduleParams : ParamSchedulerParams {
  double start_factor = 1.0 / 3;
  double end_factor = 1.0;
};

class LinearSchedule : public ParamScheduler {
 public:
  using Params = LinearScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("A factor that changes linearly from one number to another.")
        .include(ParamSchedulerParams::schema())
        .optional("start_factor", &Params::start_factor, "factor at the beginning", in_range(0, 1))
        .optional("end_factor", &Params::end_factor, "factor at the end", in_range(0, 1));
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = ParamScheduler::facts(p);
    out.ends_at_zero = p.end_factor == 0;
    return out;
  }

 protected:
  LinearSchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length),
        start_(p.start_factor),
        end_factor_(p.end_factor),
        total_(end_ - begin_ - 1) {
    start();
  }
  double next(size_t i, double value) override {
    if (last_step_ == 0) return value * start_;
    const double slope = end_factor_ - start_, total = static_cast<double>(total_);
    const double before = total * start_ + static_cast<double>(last_step_ - 1) * slope;
    // From a value of zero no factor leads away.
    if (before == 0) return base_values_[i] * slope / total;
    return value * (1.0 + slope / before);
  }
  void describe(Value& state) const override {
    state.set("start_factor", start_);
    state.set("end_factor", end_factor_);
    state.set("total_iters", total_);
  }

 private:
  double start_, end_factor_;
  int64_t total_;
};

struct PolyScheduleParams : ParamSchedulerParams {
  double eta_min = 0;
  double power = 1.0;
};

class PolySchedule : public ParamScheduler {
 public:
  using Params = PolyScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Decay by a power of the share of steps that are left.")
        .include(ParamSchedulerParams::schema())
        .optional("eta_min", &Params::eta_min, "value at the end", at_least(0))
        .optional("power", &Params::power, "exponent of the share of steps left", above(0));
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = ParamScheduler::facts(p);
    out.ends_at_zero = p.eta_min == 0;
    return out;
  }

 protected:
  PolySchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length),
        eta_min_(p.eta_min),
        power_(p.power),
        total_(end_ - begin_ - 1) {
    start();
  }
  /// For a derived class that starts itself.
  PolySchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length,
               std::nullptr_t)
      : ParamScheduler(p, what, w, length),
        eta_min_(p.eta_min),
        power_(p.power),
        total_(end_ - begin_ - 1) {}
  virtual double eta_min(size_t) const { return eta_min_; }
  double next(size_t i, double value) override {
    if (last_step_ == 0) return value;
    const double low = eta_min(i);
    const double left = 1.0 - 1.0 / static_cast<double>(total_ - last_step_ + 1);
    return (value - low) * std::pow(left, power_) + low;
  }
  void describe(Value& state) const override {
    state.set("eta_min", eta_min_);
    state.set("power", power_);
    state.set("total_iters", total_);
  }

 private:
  double eta_min_, power_;
  int64_t total_;
};

struct PolyRatioScheduleParams : PolyScheduleParams {
  std::optional<double> eta_min_ratio;
};

/// MMSegmentation's PolyLRRatio.
class PolyRatioSchedule : public PolySchedule {
 public:
  using Params = PolyRatioScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("PolyLR whose value at the end may be a share of that at the beginning.")
        .include(PolySchedule::schema())
        .optional("eta_min_ratio", &Params::eta_min_ratio,
                  "value at the end over that at the beginning, instead of eta_min", at_least(0));
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = ParamScheduler::facts(p);
    out.ends_at_zero = p.eta_min_ratio.value_or(p.eta_min) == 0;
    return out;
  }

 protected:
  PolyRatioSchedule(const Params& p, const What& what, OptimWrapper& w,
                    const ScheduleLength& length)
      : PolySchedule(p, what, w, length, nullptr), ratio_(p.eta_min_ratio) {
    start();
  }
  double eta_min(size_t i) const override {
    return ratio_ ? base_values_[i] * *ratio_ : PolySchedule::eta_min(i);
  }
  void describe(Value& state) const override {
    PolySchedule::describe(state);
    state.set("eta_min_ratio", ratio_ ? Value(*ratio_) : Value());
  }

 private:
  std::optional<double> ratio_;
};

struct ExponentialScheduleParams : ParamSchedulerParams {
  double gamma = 1;
};

class ExponentialSchedule : public ParamScheduler {
 public:
  using Params = ExponentialScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("The same factor at each step.")
        .include(ParamSchedulerParams::schema())
        .required("gamma", &Params::gamma, "the factor", above(0));
  }

 protected:
  ExponentialSchedule(const Params& p, const What& what, OptimWrapper& w,
                      const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), gamma_(p.gamma) {
    start();
  }
  double next(size_t, double value) override { return last_step_ == 0 ? value : value * gamma_; }
  void describe(Value& state) const override { state.set("gamma", gamma_); }

 private:
  double gamma_;
};

struct StepScheduleParams : ParamSchedulerParams {
  int64_t step_size = 1;
  double gamma = 0.1;
};

class StepSchedule : public ParamScheduler {
 public:
  using Params = StepScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("A factor every step_size steps.")
        .include(ParamSchedulerParams::schema())
        .required("step_size", &Params::step_size, "steps between changes", at_least(1))
        .optional("gamma", &Params::gamma, "the factor", above(0));
  }

 protected:
  StepSchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), size_(p.step_size * unit()), gamma_(p.gamma) {
    start();
  }
  double next(size_t, double value) override {
    return last_step_ == 0 || last_step_ % size_ != 0 ? value : value * gamma_;
  }
  void describe(Value& state) const override {
    state.set("step_size", size_);
    state.set("gamma", gamma_);
  }

 private:
  int64_t size_;
  double gamma_;
};

struct MultiStepScheduleParams : ParamSchedulerParams {
  std::vector<int64_t> milestones;
  double gamma = 0.1;
};

class MultiStepSchedule : public ParamScheduler {
 public:
  using Params = MultiStepScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("A factor at each of the given steps.")
        .include(ParamSchedulerParams::schema())
        .required("milestones", &Params::milestones, "the steps; one listed twice counts twice")
        .optional("gamma", &Params::gamma, "the factor", above(0));
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = ParamScheduler::facts(p);
    out.milestones = p.milestones;
    return out;
  }

 protected:
  MultiStepSchedule(const Params& p, const What& what, OptimWrapper& w,
                    const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), gamma_(p.gamma) {
    for (const int64_t m : p.milestones) ++milestones_[m * unit()];
    start();
  }
  double next(size_t, double value) override {
    const auto found = milestones_.find(last_step_);
    if (found == milestones_.end()) return value;
    return value * std::pow(gamma_, static_cast<double>(found->second));
  }
  void describe(Value& state) const override {
    Value counts = Value::dict();
    for (const auto& [step, count] : milestones_) counts.set(step, count);
    state.set("milestones", counts);
    state.set("gamma", gamma_);
  }

 private:
  std::map<int64_t, int64_t> milestones_;
  double gamma_;
};

struct CosineScheduleParams : ParamSchedulerParams {
  std::optional<int64_t> t_max;
  std::optional<double> eta_min, eta_min_ratio;
};

class CosineSchedule : public ParamScheduler {
 public:
  using Params = CosineScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Decay by half a cosine.")
        .source("SGDR, Loshchilov and Hutter 2017, arXiv:1608.03983")
        .include(ParamSchedulerParams::schema())
        .optional("T_max", &Params::t_max, "steps of the half cosine; end - begin by default",
                  at_least(1))
        .optional("eta_min", &Params::eta_min, "value at the end; 0 by default", at_least(0))
        .optional("eta_min_ratio", &Params::eta_min_ratio,
                  "value at the end over that at the beginning, instead of eta_min", at_least(0))
        .validate([](const Params& p, Problems& problems) {
          if (p.eta_min && p.eta_min_ratio) {
            problems.error("eta_min_ratio", "either eta_min or eta_min_ratio, not both");
          }
        });
  }

 protected:
  CosineSchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length),
        t_max_(p.t_max ? *p.t_max * unit() : end_ - begin_),
        eta_min_(p.eta_min),
        ratio_(p.eta_min_ratio) {
    start();
  }
  double next(size_t i, double value) override {
    const double low = ratio_ ? base_values_[i] * *ratio_ : eta_min_.value_or(0.0);
    const double pi = std::numbers::pi, t = static_cast<double>(t_max_);
    const double step = static_cast<double>(last_step_);
    if (last_step_ == 0) return value;
    if ((last_step_ - 1 - t_max_) % (2 * t_max_) == 0) {
      return value + (base_values_[i] - low) * (1 - std::cos(pi / t)) / 2;
    }
    return (1 + std::cos(pi * step / t)) / (1 + std::cos(pi * (step - 1) / t)) * (value - low) +
           low;
  }
  void describe(Value& state) const override {
    state.set("T_max", t_max_);
    state.set("eta_min", ratio_ ? Value() : Value(eta_min_.value_or(0.0)));
    state.set("eta_min_ratio", ratio_ ? Value(*ratio_) : Value());
  }

 private:
  int64_t t_max_;
  std::optional<double> eta_min_, ratio_;
};

struct CosineRestartScheduleParams : ParamSchedulerParams {
  std::vector<int64_t> periods;
  std::vector<double> restart_weights{1};
  std::optional<double> eta_min, eta_min_ratio;
};

class CosineRestartSchedule : public ParamScheduler {
 public:
  using Params = CosineRestartScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Half cosines one after the other.")
        .source("SGDR, Loshchilov and Hutter 2017, arXiv:1608.03983")
        .include(ParamSchedulerParams::schema())
        .required("periods", &Params::periods, "steps of each half cosine", at_least(1))
        .optional("restart_weights", &Params::restart_weights,
                  "of each half cosine, factor of its first value")
        .optional("eta_min", &Params::eta_min, "value at the end of each", at_least(0))
        .optional("eta_min_ratio", &Params::eta_min_ratio,
                  "that value over the one at the beginning, instead of eta_min", at_least(0))
        .validate([](const Params& p, Problems& problems) {
          if (p.eta_min.has_value() == p.eta_min_ratio.has_value()) {
            problems.error("eta_min", "needs either eta_min or eta_min_ratio");
          }
          if (p.periods.size() != p.restart_weights.size()) {
            problems.error("restart_weights", text("needs one for each of the ", p.periods.size(),
                                                   " periods, got ", p.restart_weights.size()));
          }
        });
  }

 protected:
  CosineRestartSchedule(const Params& p, const What& what, OptimWrapper& w,
                        const ScheduleLength& length)
      : ParamScheduler(p, what, w, length), p_(p) {
    int64_t sum = 0;
    for (int64_t& period : p_.periods) {
      period *= unit();
      ends_.push_back(sum += period);
    }
    start();
  }
  double next(size_t i, double value) override {
    size_t k = 0;
    while (k < ends_.size() && last_step_ >= ends_[k]) ++k;
    if (k == ends_.size()) return value;
    const int64_t at = last_step_ - (k == 0 ? 0 : ends_[k - 1]);
    if (at == 0) return base_values_[i] * p_.restart_weights[k];
    const double low = p_.eta_min_ratio ? base_values_[i] * *p_.eta_min_ratio : *p_.eta_min;
    const double pi = std::numbers::pi, period = static_cast<double>(p_.periods[k]);
    const double step = static_cast<double>(at);
    return (1 + std::cos(pi * step / period)) / (1 + std::cos(pi * (step - 1) / period)) *
               (value - low) +
           low;
  }
  void describe(Value& state) const override {
    Value periods = Value::list(), weights = Value::list(), ends = Value::list();
    for (const int64_t v : p_.periods) periods.push_back(v);
    for (const double v : p_.restart_weights) weights.push_back(v);
    for (const int64_t v : ends_) ends.push_back(v);
    state.set("periods", periods);
    state.set("eta_min", p_.eta_min ? Value(*p_.eta_min) : Value());
    state.set("eta_min_ratio", p_.eta_min_ratio ? Value(*p_.eta_min_ratio) : Value());
    state.set("restart_weights", weights);
    state.set("cumulative_periods", ends);
  }

 private:
  Params p_;
  std::vector<int64_t> ends_;
};

struct OneCycleScheduleParams : ParamSchedulerParams {
  OneOrMany<double> eta_max{{0.0}, false};
  std::optional<int64_t> total_steps;
  double pct_start = 0.3;
  std::string anneal_strategy = "cos";
  double div_factor = 25;
  double final_div_factor = 1e4;
  bool three_phase = false;
};

class OneCycleSchedule : public ParamScheduler {
 public:
  using Params = OneCycleScheduleParams;
  static Schema<Params> schema() {
    return Schema<Params>("Up to a largest value, then far down, in one cycle.")
        .source("Super-convergence, Smith and Topin 2017, arXiv:1708.07120")
        .include(ParamSchedulerParams::schema())
        .optional("eta_max", &Params::eta_max, "largest value, or one for each parameter group")
        .optional("total_steps", &Params::total_steps, "of the cycle; end - begin by default",
                  at_least(1))
        .optional("pct_start", &Params::pct_start, "share of the steps that go up", in_range(0, 1))
        .optional("anneal_strategy", &Params::anneal_strategy, "interpolation between values",
                  one_of({"cos", "linear"}))
        .optional("div_factor", &Params::div_factor, "largest value over the first", above(0))
        .optional("final_div_factor", &Params::final_div_factor, "first value over the last",
                  above(0))
        .optional("three_phase", &Params::three_phase,
                  "return to the first value before going to the last");
  }

 protected:
  OneCycleSchedule(const Params& p, const What& what, OptimWrapper& w, const ScheduleLength& length)
      : ParamScheduler(p, what, w, length),
        total_(p.total_steps ? *p.total_steps * unit() : end_ - begin_),
        linear_(p.anneal_strategy == "linear") {
    if (param_name() != "lr") {
      throw OptionError("param_name",
                        text("one cycle is of the learning rate, lr, not of ", param_name()));
    }
    const std::vector<double>& most = p.eta_max.values;
    if (most.size() != 1 && most.size() != num_groups()) {
      throw OptionError("eta_max", text("needs one value or ", num_groups(),
                                        " (parameter groups), got ", most.size()));
    }
    for (size_t i = 0; i < num_groups(); ++i) {
      const double top = most.size() == 1 ? most[0] : most[i];
      group(i).initial_lr = top / p.div_factor;
      group(i).max_lr = top;
      group(i).min_lr = top / p.div_factor / p.final_div_factor;
    }
    const double up = p.pct_start * static_cast<double>(total_);
    const double last = static_cast<double>(total_ - 1);
    const Rate initial{"initial_lr", &ParamGroup::initial_lr};
    const Rate largest{"max_lr", &ParamGroup::max_lr}, least{"min_lr", &ParamGroup::min_lr};
    if (p.three_phase) {
      phases_ = {
          {up - 1, initial, largest}, {2 * up - 2, largest, initial}, {last, initial, least}};
    } else {
      phases_ = {{up - 1, initial, largest}, {last, largest, least}};
    }
    start();
  }
  double next(size_t i, double value) override {
    if (last_step_ > total_) return value;
    const double step = static_cast<double>(last_step_);
    double begin = 0;
    for (size_t k = 0; k < phases_.size(); ++k) {
      const Phase& phase = phases_[k];
      if (step <= phase.end || k + 1 == phases_.size()) {
        const double share = (step - begin) / (phase.end - begin);
        const double from = *(group(i).*phase.from.member), to = *(group(i).*phase.to.member);
        if (linear_) return (to - from) * share + from;
        return to + (from - to) / 2.0 * (std::cos(std::numbers::pi * share) + 1);
      }
      begin = phase.end;
    }
    return value;
  }
  void describe(Value& state) const override {
    state.set("total_steps", total_);
    Value phases = Value::list();
    for (const Phase& phase : phases_) {
      Value entry = Value::dict();
      entry.set("end_step", phase.end);
      entry.set("start_lr", phase.from.name);
      entry.set("end_lr", phase.to.name);
      phases.push_back(entry);
    }
    state.set("_schedule_phases", phases);
  }

 private:
  struct Rate {
    const char* name;  ///< in the state
    std::optional<double> ParamGroup::*member;
  };
  struct Phase {
    double end;
    Rate from, to;
  };
  int64_t total_;
  bool linear_;
  std::vector<Phase> phases_;
};

SEG_SCHEDULE(ConstantSchedule, Constant);
SEG_SCHEDULE(LinearSchedule, Linear);
SEG_SCHEDULE(PolySchedule, Poly);
SEG_SCHEDULE(ExponentialSchedule, Exponential);
SEG_SCHEDULE(StepSchedule, Step);
SEG_SCHEDULE(MultiStepSchedule, MultiStep);
SEG_SCHEDULE(CosineSchedule, CosineAnnealing);
SEG_SCHEDULE(CosineRestartSchedule, CosineRestart);
SEG_NAMED_SCHEDULE(OneCycleSchedule, OneCycle);

using OneCycleLRType = ScheduleOf<OneCycleSchedule, false>;
SEG_REGISTER_AS(ParamScheduler, OneCycleLRType, "OneCycleLR");
using PolyLRRatioType = ScheduleOf<PolyRatioSchedule, false>;
SEG_REGISTER_AS(ParamScheduler, PolyLRRatioType, "PolyLRRatio");

}  // namespace seg
