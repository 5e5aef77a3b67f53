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
      what_(std::move(what)),
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
  if (what_.is_momentum) {
    if (!groups_.front()->hyper->scheduled_momentum()) {
      throw OptionError("type", "the optimizer has no momentum");
    }
    for (ParamGroup* g : groups_) g->set_momentum(g->momentum());
  } else if (!groups_.front()->hyper->number(what_.name)) {
    throw OptionError("param_name",
                      text("the optimizer has no number '", what_.name, "' among its options"));
  }
}

void ParamScheduler::start() {
  take_base_values();
  step();
}

void ParamScheduler::take_base_values() {
  const std::string note = "initial_" + what_.name;
  base_values_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) {
    ParamGroup& g = *groups_[i];
    if (!g.note(note)) {
      if (last_step_ != -1) {
        throw OptionError("last_step", text("needs groups with ", note, ", of a resumed run"));
      }
      g.set_note(note, value(i));
    }
    base_values_.push_back(*g.note(note));
  }
}

double ParamScheduler::value(size_t i) const {
  return what_.is_momentum ? groups_[i]->momentum() : *groups_[i]->hyper->number(what_.name);
}

void ParamScheduler::set_value(size_t i, double v) {
  if (what_.is_momentum) {
    groups_[i]->set_momentum(v);
  } else {
    *groups_[i]->hyper->number(what_.name) = v;
  }
  if (verbose_) log::info("group ", i, ": ", what_.name, " is ", v);
}

void ParamScheduler::step() {
  ++global_step_;
  if (begin_ <= global_step_ && global_step_ < end_) {
    ++last_step_;
    std::vector<double> values;
    for (size_t i = 0; i < groups_.size(); ++i) values.push_back(next(i, value(i)));
    for (size_t i = 0; i < groups_.size(); ++i) set_value(i, values[i]);
  }
  remember_values();
}

void ParamScheduler::remember_values() {
  last_value_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) last_value_.push_back(value(i));
}

void ParamScheduler::set_steps_done(int64_t steps) {
  global_step_ = steps;
  last_step_ = first_last_step_ + std::max<int64_t>(0, std::min(global_step_ + 1, end_) - begin_);
}

void ParamScheduler::write_range(Value& state) const {
  if (what_.is_momentum) state.set("use_betas", groups_.front()->hyper->has_betas());
  state.set("param_name", what_.name);
  state.set("begin", begin_);
  state.set("end", end_);
  state.set("by_epoch", by_epoch_);
  state.set("last_step", last_step_);
  state.set("_global_step", global_step_);
  state.set("verbose", verbose_);
  state.set("_last_value", schedule_list(last_value_));
}

Value ParamScheduler::state_dict() const {
  Value out = Value::dict();
  describe(out);
  out.set("base_values", schedule_list(base_values_));
  write_range(out);
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
  load_last_values(state);
}

void ParamScheduler::load_last_values(const Value& state) {
  const Value* last = state.find("_last_value");
  if (!last) return;
  last_value_.clear();
  for (const Value& v : last->as_list()) last_value_.push_back(v.as_float());
}

}  // namespace seg
