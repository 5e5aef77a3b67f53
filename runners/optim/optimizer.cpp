#include "runners/optim/optimizer.hpp"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "registry/log.hpp"

namespace seg {
namespace {

/// Kernels walk gradients as they walk parameters, so both must lie alike in memory.
at::Tensor optim_aligned_grad(const at::Tensor& grad, const at::Tensor& param) {
  if (grad.is_sparse()) return optim_aligned_grad(grad.to_dense(), param);
  bool same = grad.scalar_type() == param.scalar_type();
  for (int64_t i = 0; same && i < grad.dim(); ++i) {
    same = grad.size(i) <= 1 || grad.stride(i) == param.stride(i);
  }
  return same ? grad : at::empty_like(param).copy_(grad);
}

/// The notes of a group, under the names that MMEngine has for them.
struct GroupNote {
  const char* name;
  std::optional<double> ParamGroup::*member;
};
constexpr GroupNote kGroupNotes[] = {
    {"lr_mult", &ParamGroup::lr_mult},        {"decay_mult", &ParamGroup::decay_mult},
    {"lr_scale", &ParamGroup::lr_scale},      {"initial_lr", &ParamGroup::initial_lr},
    {"max_lr", &ParamGroup::max_lr},          {"min_lr", &ParamGroup::min_lr},
    {"momentum", &ParamGroup::beta_momentum}, {"initial_momentum", &ParamGroup::initial_momentum}};

std::string optim_name(const ParamGroup& group, size_t i) {
  return i < group.names.size() ? group.names[i] : text("parameter ", i);
}

constexpr std::string_view kCodes = "_codes", kScales = "_scales";

/// "exp_avg" for the entries of the mean in 8 bits, too.
std::string name_of_mean(const std::string& entry) {
  for (const std::string_view end : {kCodes, kScales}) {
    if (entry.ends_with(end)) return entry.substr(0, entry.size() - end.size());
  }
  return entry;
}

}  // namespace

double ParamGroup::momentum() const {
  const double* value = hyper->scheduled_momentum();
  return value ? *value : 0.0;
}

void ParamGroup::set_momentum(double value) {
  if (double* own = hyper->scheduled_momentum()) *own = value;
  if (hyper->has_betas() || !hyper->scheduled_momentum()) beta_momentum = value;
}

void ParamGroup::set_epsilon(double value) {
  if (double* own = hyper->epsilon()) {
    *own = value;
  } else {
    other.set("eps", value);
  }
}

std::optional<double> ParamGroup::note(const std::string& name) const {
  for (const auto& own : kGroupNotes) {
    if (name == own.name) return this->*own.member;
  }
  const Value* kept = other.find(name);
  return kept && !kept->is_none() ? std::optional(kept->as_float()) : std::nullopt;
}

void ParamGroup::set_note(const std::string& name, double value) {
  for (const auto& own : kGroupNotes) {
    if (name != own.name) continue;
    this->*own.member = value;
    return;
  }
  other.set(name, value);
}

Value ParamGroup::options() const {
  Value out = Value::dict();
  hyper->write(out);
  for (const auto& note : kGroupNotes) {
    if (this->*note.member) out.set(note.name, *(this->*note.member));
  }
  if (group_name) out.set("group_name", *group_name);
  if (lists_names) {
    Value list = Value::list();
    for (const auto& name : names) list.push_back(name);
    out.set("param_names", list);
  }
  for (const auto& [key, value] : other.as_dict()) out.set(key, value);
  return out;
}

void ParamGroup::read_options(const Value& saved) {
  for (const auto& [key, value] : saved.as_dict()) {
    const std::string& name = key.as_string();
    if (name == "params" || name == "param_names" || hyper->read(name, value)) continue;
    const auto* note = std::ranges::find_if(kGroupNotes, [&](auto& n) { return name == n.name; });
    if (note != std::end(kGroupNotes) && !value.is_none()) {
      this->*note->member = value.as_float();
    } else if (name == "group_name" && value.is_string()) {
      group_name = value.as_string();
    } else {
      other.set(key, value);
    }
  }
}

ParamGroup Optimizer::new_group() const {
  ParamGroup group;
  group.hyper = defaults_->copy();
  return group;
}

void Optimizer::add_group(ParamGroup group) {
  if (!group.hyper) group.hyper = defaults_->copy();
  std::set<const void*> seen;
  for (const auto& g : groups_) {
    for (const auto& p : g.params) seen.insert(p.unsafeGetTensorImpl());
  }
  for (size_t i = 0; i < group.params.size(); ++i) {
    SEG_CHECK(seen.insert(group.params[i].unsafeGetTensorImpl()).second, optim_name(group, i),
              " is in more than one parameter group");
    check_param(group.params[i], optim_name(group, i));
  }
  states_.emplace_back(group.params.size());
  groups_.push_back(std::move(group));
}

void Optimizer::step(const at::Tensor& found_inf) {
  const at::NoGradGuard no_grad;
  using Key = std::tuple<std::vector<double>, c10::DeviceType, int, at::ScalarType>;
  std::map<Key, ParameterBatch> batches;
  if (state_dtype_ != StateDtype::kFloat32) ++updates_;
  int64_t index = -1;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParamGroup& group = groups_[g];
    const std::vector<double> numbers = group.hyper->numbers();
    for (size_t i = 0; i < group.params.size(); ++i) {
      ++index;
      const at::Tensor& param = group.params[i];
      const at::Tensor& grad = param.grad();
      if (!grad.defined()) continue;
      ParameterBatch& batch =
          batches[{numbers, param.device().type(), param.device().index(), param.scalar_type()}];
      if (batch.params.empty()) {
        batch.hyper = group.hyper.get();
        batch.found_inf = found_inf;
      }
      batch.params.push_back(param.detach());
      batch.grads.push_back(optim_aligned_grad(grad, param));
      batch.states.push_back(&states_[g][i]);
      batch.keys.push_back(rounding_key(index, updates_));
    }
  }
  for (auto& [key, batch] : batches) update(batch);
}

Optimizer::ParameterBatch Optimizer::take_compact(ParameterBatch& batch) const {
  ParameterBatch compact, rest;
  for (ParameterBatch* part : {&compact, &rest}) {
    part->hyper = batch.hyper;
    part->found_inf = batch.found_inf;
  }
  for (size_t i = 0; i < batch.params.size(); ++i) {
    ParameterBatch& to = has_compact_state(batch.params[i], state_dtype_) ? compact : rest;
    to.params.push_back(std::move(batch.params[i]));
    to.grads.push_back(std::move(batch.grads[i]));
    to.states.push_back(batch.states[i]);
    to.keys.push_back(batch.keys[i]);
  }
  batch = std::move(rest);
  return compact;
}

bool Optimizer::ParameterBatch::skips() const {
  return found_inf.defined() && found_inf.item<float>() != 0;
}

bool Optimizer::keeps_squares(const std::string& name) const {
  const std::vector<Kept> own = kept();
  return std::ranges::any_of(own, [&](const Kept& k) { return name == k.name && k.squares; });
}

KeptMean Optimizer::kept_mean(State& state, const std::string& name,
                              const at::Tensor& param) const {
  const bool in_codes = state_dtype_ == StateDtype::kInt8;
  at::Tensor& values = state[in_codes ? text(name, kCodes) : name];
  if (!values.defined()) {
    const KeptMean zeros = KeptMean::zeros(param, state_dtype_, keeps_squares(name));
    values = zeros.values;
    if (in_codes) state[text(name, kScales)] = zeros.scales;
  }
  return {values, in_codes ? state.at(text(name, kScales)) : at::Tensor(), keeps_squares(name)};
}

void Optimizer::zero_grad(bool set_to_none) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads;
  for (auto& group : groups_) {
    for (auto& param : group.params) {
      at::Tensor& grad = param.mutable_grad();
      if (!grad.defined()) continue;
      if (set_to_none) {
        grad.reset();
      } else {
        grads.push_back(grad.detach());
      }
    }
  }
  if (!grads.empty()) at::_foreach_zero_(grads);
}

Value Optimizer::state_dict() const {
  Value state = Value::dict(), groups = Value::list();
  int64_t index = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Value packed = groups_[g].options(), indices = Value::list();
    for (const State& kept : states_[g]) {
      if (!kept.empty()) {
        Value entry = Value::dict();
        for (const auto& [name, tensor] : kept) {
          // Python's optimizers keep their counters on the CPU by default.
          entry.set(name, name == "step" ? tensor.detach().to(at::kCPU, /*non_blocking=*/false,
                                                              /*copy=*/true)
                                         : tensor.detach());
        }
        state.set(index, entry);
      }
      indices.push_back(index++);
    }
    packed.set("params", indices);
    groups.push_back(packed);
  }
  Value out = Value::dict();
  out.set("state", state);
  out.set("param_groups", groups);
  if (state_dtype_ != StateDtype::kFloat32) {
    out.set("state_dtype", name_of(state_dtype_));
    out.set("updates", updates_);
  }
  return out;
}

void Optimizer::check_kept(const Value& saved) const {
  const std::vector<Kept> own = kept();
  std::vector<std::string> names;
  bool fits = true;
  for (const auto& [key, value] : saved.as_dict()) {
    const std::string name = name_of_mean(names.emplace_back(key.as_string()));
    fits =
        fits && std::any_of(own.begin(), own.end(), [&](const Kept& k) { return name == k.name; });
  }
  for (const Kept& k : own) {
    const Value* value = saved.find(k.name);
    const bool whole = value && !value->is_none();
    fits = fits && (!k.always || whole || saved.find(text(k.name, kCodes)));
  }
  if (fits) return;
  throw CheckpointError(
      text("the optimizer's state holds ", join(names, ", "),
           ", which this config's optimizer does not use: was it saved with another "
           "optimizer? Give the checkpoint as load_from to start from its weights"));
}

Optimizer::State Optimizer::read_state(const Value& saved, const at::Tensor& param,
                                       const std::string& param_name) const {
  check_kept(saved);
  State out;
  for (const auto& [key, value] : saved.as_dict()) {
    const std::string& name = key.as_string();
    if (value.is_none()) continue;
    if (name == "step") {
      const at::Tensor count = value.is_tensor() ? value.as_tensor().reshape({})
                                                 : at::scalar_tensor(value.as_float(), at::kDouble);
      out[name] = count.to(param.device(), at::kFloat, false, /*copy=*/true);
      continue;
    }
    if (!name.ends_with(kScales)) read_mean(saved, name, param, param_name, out);
  }
  return out;
}

void Optimizer::read_mean(const Value& saved, const std::string& entry, const at::Tensor& param,
                          const std::string& param_name, State& to) const {
  const std::string name = name_of_mean(entry);
  const at::Tensor& tensor = saved.at(entry).as_tensor();
  const std::vector<int64_t> shape = kept_shape(name, param);
  if (tensor.sizes() != shape) {
    throw CheckpointError(text("the optimizer's '", name, "' of ", param_name, " has shape ",
                               tensor.sizes(), ", the parameter has ", param.sizes()));
  }
  KeptMean mean{tensor, {}, keeps_squares(name)};
  if (entry != name) {
    mean.scales = saved.at(text(name, kScales)).as_tensor();
    if (!mean.fits()) {
      throw CheckpointError(text("the optimizer's '", name, "' of ", param_name, " has ",
                                 mean.scales.numel(), " scales for ", tensor.numel(),
                                 " codes of type ", tensor.scalar_type(), ", not one for ",
                                 kMeanBlock, " codes of type Byte"));
    }
  }
  const at::Tensor own = param.detach();
  if (has_compact_state(param, state_dtype_)) {
    const KeptMean kept = mean.converted(own, state_dtype_);
    if (kept.scales.defined()) {
      to[text(name, kCodes)] = kept.values;
      to[text(name, kScales)] = kept.scales;
    } else {
      to[name] = kept.values;
    }
    return;
  }
  at::Tensor& whole = to[name];
  whole = param.sizes() == shape ? at::empty_like(own) : at::empty(shape, own.options());
  whole.copy_(mean.decoded());
}

std::vector<std::vector<Optimizer::State>> Optimizer::read_states(const Value& saved) const {
  std::map<int64_t, const Value*> by_index;
  for (const auto& [key, value] : saved.at("state").as_dict()) by_index[key.as_int()] = &value;
  const ValueList& saved_groups = saved.at("param_groups").as_list();
  std::vector<std::vector<State>> out(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ValueList& indices = saved_groups[g].at("params").as_list();
    const ParamGroup& group = groups_[g];
    if (indices.size() != group.params.size()) {
      throw CheckpointError(text("parameter group ", g, " of the optimizer's state has ",
                                 indices.size(), " parameters, that of this config has ",
                                 group.params.size()));
    }
    out[g].resize(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) {
      const auto found = by_index.find(indices[i].as_int());
      if (found == by_index.end()) continue;
      out[g][i] = read_state(*found->second, group.params[i], optim_name(group, i));
    }
  }
  return out;
}

void Optimizer::load_state_dict(const Value& saved) {
  const at::NoGradGuard no_grad;
  const ValueList& saved_groups = saved.at("param_groups").as_list();
  if (saved_groups.size() != groups_.size()) {
    throw CheckpointError(text("the optimizer's state has ", saved_groups.size(),
                               " parameter groups, the optimizer of this config has ",
                               groups_.size(), ": was it saved with another paramwise_cfg?"));
  }
  const Value* type = saved.find("state_dtype");
  const StateDtype was = type ? state_dtype_of(type->as_string()) : StateDtype::kFloat32;
  auto loaded = read_states(saved);  // before anything changes
  for (size_t g = 0; g < groups_.size(); ++g) groups_[g].read_options(saved_groups[g]);
  states_ = std::move(loaded);
  const Value* updates = saved.find("updates");
  updates_ = updates ? updates->as_int() : 0;
  if (was != state_dtype_) {
    log::info("the optimizer's state is ", name_of(was), " in the checkpoint, and is converted to ",
              name_of(state_dtype_));
  }
}

}  // namespace seg
