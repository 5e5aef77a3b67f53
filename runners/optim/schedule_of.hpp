/// The types that configs name, made of a schedule: of the learning rate (StepLR), of the momentum
/// (StepMomentum), and of any other number (StepParamScheduler).
#pragma once
#include <string>

#include "runners/optim/param_scheduler.hpp"

namespace seg {

/// A schedule of the learning rate, or of the momentum where `kMomentum`.
template <class Base, bool kMomentum>
class ScheduleOf final : public Base {
 public:
  using Params = typename Base::Params;
  static Schema<Params> schema() { return Base::schema(); }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = Base::facts(p);
    if (kMomentum) out.ends_at_zero = false;
    return out;
  }
  ScheduleOf(const Params& p, OptimWrapper& wrapper, const ScheduleLength& length)
      : Base(p, {kMomentum ? "momentum" : "lr", kMomentum}, wrapper, length) {}
};

template <class BaseParams>
struct NamedScheduleParams : BaseParams {
  std::string param_name;
};

/// A schedule of the option that a config names.
template <class Base>
class NamedSchedule final : public Base {
 public:
  using Params = NamedScheduleParams<typename Base::Params>;
  static Schema<Params> schema() {
    const Schema<typename Base::Params> own = Base::schema();
    Schema<Params> out(own.summary());
    out.source(own.source_text()).include(own);
    return out.required("param_name", &Params::param_name,
                        "a number among the options of the optimizer: lr, weight_decay, momentum");
  }
  static ParamSchedulerFacts facts(const Params& p) {
    ParamSchedulerFacts out = Base::facts(p);
    out.ends_at_zero = out.ends_at_zero && p.param_name == "lr";
    return out;
  }
  NamedSchedule(const Params& p, OptimWrapper& wrapper, const ScheduleLength& length)
      : Base(p, {p.param_name, false}, wrapper, length) {}
};

#define SEG_NAMED_SCHEDULE(Base, name)         \
  using name##NamedType = NamedSchedule<Base>; \
  SEG_REGISTER_AS(ParamScheduler, name##NamedType, #name "ParamScheduler")
#define SEG_SCHEDULE(Base, name)                                         \
  using name##LRType = ScheduleOf<Base, false>;                          \
  using name##MomentumType = ScheduleOf<Base, true>;                     \
  SEG_REGISTER_AS(ParamScheduler, name##LRType, #name "LR");             \
  SEG_REGISTER_AS(ParamScheduler, name##MomentumType, #name "Momentum"); \
  SEG_NAMED_SCHEDULE(Base, name)

}  // namespace seg
