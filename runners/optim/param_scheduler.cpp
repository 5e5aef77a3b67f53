#include "runners/optim/param_scheduler.hpp"

#include "registry/log.hpp"

namespace seg {
namespace {

Value schedule_list(const std::vector<double>& values) {
  Value out = Value::list();
  for (const double v : values) out.push_back(v);
  return out;
}

}  // namespace

Schema<ParamSchedulerParams> ParamSchedulerParams::schema() {
  using P = ParamSchedulerParams;
  return Schema<P>("When a schedule acts.")
      .optional("begin", &P::begin, "step at which it starts", at_least(0))
      .optional("end", &P::end, "step before which it ends; the end of the run by default")
      .optional("last_step", &P::last_step, "steps made before the run, minus one", at_least(-1))
      .optional("by_epoch", &P::by_epoch, "steps are epochs, not iterations")
      .optional("convert_to_iter_based", &P::convert_to_iter_based,
                "acts each iteration, although its options count epochs")
      .optional("verbose", &P::verbose, "log each value that it sets")
      .validate([](const P& p, Problems& problems) {
        if (p.end && *p.end <= p.begin) {
          problems.error("end", text("must be above begin, ", p.begin, ", got ", *p.end));
        }
        if (p.convert_to_iter_based && !p.by_epoch) {
          problems.error("convert_to_iter_based", "needs by_epoch: true");
        }
      });
}

ParamScheduler::ParamScheduler(const ParamSchedulerParams& params, What what, OptimWrapper& wrapper,
                               const ScheduleLength& length)
    : begin_(params.begin),
      last_step_(params.last_step),
      what_(what),
      by_epoch_(params.by_epoch),
      verbose_(params.verbose),
      unit_(1),
      first_last_step_(params.last_step),
      groups_(wrapper.scheduled_groups()) {
  end_ = params.end.value_or(by_epoch_ ? length.max_epochs : length.max_iters);
  if (end_ <= begin_) {
    throw OptionError("begin",
                      text("the schedule begins at step ", begin_, ", the run ends at ", end_));
  }
  if (params.convert_to_iter_based) {
    unit_ = length.epoch_length;
    by_epoch_ = false;
    begin_ *= unit_;
    if (end_ != kScheduleForever) end_ *= unit_;
  }
  if (what_ == What::kMomentum) {
    if (!groups_.front()->hyper->scheduled_momentum()) {
      throw OptionError("type", "the optimizer has no momentum");
    }
    for (ParamGroup* g : groups_) g->set_momentum(g->momentum());
  }
}

void ParamScheduler::start() {
  base_values_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) {
    ParamGroup& g = *groups_[i];
    std::optional<double>& initial = what_ == What::kLr ? g.initial_lr : g.initial_momentum;
    if (!initial) {
      if (last_step_ != -1) {
        throw OptionError("last_step",
                          text("needs groups with initial_", param_name(), ", of a resumed run"));
      }
      initial = value(i);
    }
    base_values_.push_back(*initial);
  }
  step();
}

double ParamScheduler::value(size_t i) const {
  return what_ == What::kLr ? groups_[i]->hyper->lr : groups_[i]->momentum();
}

void ParamScheduler::set_value(size_t i, double v) {
  if (what_ == What::kMomentum) {
    groups_[i]->set_momentum(v);
  } else {
    groups_[i]->hyper->lr = v;
  }
  if (verbose_) log::info("group ", i, ": ", param_name(), " is ", v);
}

void ParamScheduler::step() {
  ++global_step_;
  if (begin_ <= global_step_ && global_step_ < end_) {
    ++last_step_;
    std::vector<double> values;
    for (size_t i = 0; i < groups_.size(); ++i) values.push_back(next(i, value(i)));
    for (size_t i = 0; i < groups_.size(); ++i) set_value(i, values[i]);
  }
  last_value_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) last_value_.push_back(value(i));
}

void ParamScheduler::set_steps_done(int64_t steps) {
  global_step_ = steps;
  last_step_ = first_last_step_ + std::max<int64_t>(0, std::min(global_step_ + 1, end_) - begin_);
}

void ParamScheduler::observe(const std::vector<std::pair<std::string, double>>&) {}

Value ParamScheduler::state_dict() const {
  Value out = Value::dict();
  describe(out);
  if (what_ == What::kMomentum) out.set("use_betas", groups_.front()->hyper->has_betas());
  out.set("param_name", param_name());
  out.set("begin", begin_);
  out.set("end", end_);
  out.set("by_epoch", by_epoch_);
  out.set("base_values", schedule_list(base_values_));
  out.set("last_step", last_step_);
  out.set("_global_step", global_step_);
  out.set("verbose", verbose_);
  out.set("_last_value", schedule_list(last_value_));
  return out;
}

void ParamScheduler::load_state_dict(const Value& state) {
  const ValueList& base = state.at("base_values").as_list();
  if (base.size() != groups_.size()) {
    throw CheckpointError(text("the state of a schedule has ", base.size(),
                               " parameter groups, this config has ", groups_.size()));
  }
  for (size_t i = 0; i < base.size(); ++i) base_values_[i] = base[i].as_float();
  set_steps_done(state.at("_global_step").as_int());
  if (const Value* last = state.find("_last_value")) {
    last_value_.clear();
    for (const Value& v : last->as_list()) last_value_.push_back(v.as_float());
  }
}

}  // namespace seg
