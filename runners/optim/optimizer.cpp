#include "runners/optim/optimizer.hpp"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>
#include <tuple>

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

/// A copy whose changes do not reach the original.
Value optim_copy_dict(const Value& dict) {
  Value out = Value::dict();
  for (const auto& [key, value] : dict.as_dict()) out.set(key, value);
  return out;
}

std::string optim_name(const ParamGroup& group, size_t i) {
  return i < group.names.size() ? group.names[i] : text("parameter ", i);
}

}  // namespace

double ParamGroup::number(std::string_view key) const { return options.at(key).as_float(); }

void ParamGroup::set(std::string_view key, double value) { options.set(std::string(key), value); }

double ParamGroup::momentum() const {
  if (const Value* betas = options.find("betas")) return betas->as_list().at(0).as_float();
  return has("momentum") ? number("momentum") : 0.0;
}

void ParamGroup::set_momentum(double value) {
  if (const Value* betas = options.find("betas")) {
    const double second = betas->as_list().at(1).as_float();
    options.set("betas", Value::tuple({value, second}));
  }
  set("momentum", value);
}

void Optimizer::add_group(ParamGroup group) {
  for (const auto& [key, value] : defaults_.as_dict()) {
    if (!group.has(key.as_string())) group.options.set(key, value);
  }
  std::set<const void*> seen;
  for (const auto& g : groups_) {
    for (const auto& p : g.params) seen.insert(p.unsafeGetTensorImpl());
  }
  for (size_t i = 0; i < group.params.size(); ++i) {
    SEG_CHECK(seen.insert(group.params[i].unsafeGetTensorImpl()).second, optim_name(group, i),
              " is in more than one parameter group");
  }
  states_.emplace_back(group.params.size());
  groups_.push_back(std::move(group));
}

void Optimizer::step(const at::Tensor& found_inf) {
  const at::NoGradGuard no_grad;
  using Key = std::tuple<std::vector<double>, c10::DeviceType, int, at::ScalarType>;
  std::map<Key, Bunch> bunches;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParamGroup& group = groups_[g];
    const std::vector<double> values = numbers(group);
    for (size_t i = 0; i < group.params.size(); ++i) {
      const at::Tensor& param = group.params[i];
      const at::Tensor& grad = param.grad();
      if (!grad.defined()) continue;
      Bunch& bunch =
          bunches[{values, param.device().type(), param.device().index(), param.scalar_type()}];
      if (bunch.params.empty()) {
        bunch.numbers = values;
        bunch.found_inf = found_inf;
      }
      bunch.params.push_back(param.detach());
      bunch.grads.push_back(optim_aligned_grad(grad, param));
      bunch.states.push_back(&states_[g][i]);
    }
  }
  for (auto& [key, bunch] : bunches) update(bunch);
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
    Value packed = optim_copy_dict(groups_[g].options), indices = Value::list();
    for (const State& kept : states_[g]) {
      if (!kept.empty()) {
        Value entry = Value::dict();
        for (const auto& [name, tensor] : kept) {
          // Python's optimizers want their counters on the CPU unless told otherwise.
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
  return out;
}

void Optimizer::check_kept(const Value& saved) const {
  const std::vector<Kept> own = kept();
  std::vector<std::string> names;
  bool fits = true;
  for (const auto& [key, value] : saved.as_dict()) {
    const std::string& name = names.emplace_back(key.as_string());
    fits =
        fits && std::any_of(own.begin(), own.end(), [&](const Kept& k) { return name == k.name; });
  }
  for (const Kept& k : own) {
    const Value* value = saved.find(k.name);
    fits = fits && (!k.always || (value && !value->is_none()));
  }
  if (fits) return;
  throw CheckpointError(text("the optimizer's state holds ", join(names, ", "),
                             ", which this config's optimizer does not go on with: was it saved "
                             "with another optimizer? Give the checkpoint as load_from to begin "
                             "with its weights"));
}

void Optimizer::load_state_dict(const Value& saved) {
  const at::NoGradGuard no_grad;
  const ValueList& saved_groups = saved.at("param_groups").as_list();
  if (saved_groups.size() != groups_.size()) {
    throw CheckpointError(text("the optimizer's state has ", saved_groups.size(),
                               " parameter groups, the optimizer of this config has ",
                               groups_.size(), ": was it saved with another paramwise_cfg?"));
  }
  std::map<int64_t, const Value*> saved_state;
  for (const auto& [key, value] : saved.at("state").as_dict()) {
    saved_state[key.as_int()] = &value;
  }
  std::vector<std::vector<State>> loaded(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ValueList& indices = saved_groups[g].at("params").as_list();
    const ParamGroup& group = groups_[g];
    if (indices.size() != group.params.size()) {
      throw CheckpointError(text("parameter group ", g, " of the optimizer's state has ",
                                 indices.size(), " parameters, that of this config has ",
                                 group.params.size()));
    }
    loaded[g].resize(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) {
      const auto found = saved_state.find(indices[i].as_int());
      if (found == saved_state.end()) continue;
      const at::Tensor& param = group.params[i];
      check_kept(*found->second);
      for (const auto& [key, value] : found->second->as_dict()) {
        const std::string& name = key.as_string();
        if (value.is_none()) continue;
        if (name == "step") {
          const at::Tensor count = value.is_tensor()
                                       ? value.as_tensor().reshape({})
                                       : at::scalar_tensor(value.as_float(), at::kDouble);
          loaded[g][i][name] = count.to(param.device(), at::kFloat, false, /*copy=*/true);
          continue;
        }
        const at::Tensor& tensor = value.as_tensor();
        if (tensor.sizes() != param.sizes()) {
          throw CheckpointError(text("the optimizer's '", name, "' of ", optim_name(group, i),
                                     " has shape ", tensor.sizes(), ", the parameter has ",
                                     param.sizes()));
        }
        loaded[g][i][name] = at::empty_like(param.detach()).copy_(tensor);
      }
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const auto& [key, value] : saved_groups[g].as_dict()) {
      if (key.as_string() != "params") groups_[g].options.set(key, value);
    }
  }
  states_ = std::move(loaded);
}

}  // namespace seg
