#include "runners/optim/optim_wrapper.hpp"

#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <unordered_set>

#include "registry/log.hpp"
#include "segcore/models/layers/norm.hpp"

namespace seg {

Schema<ClipGrad> ClipGrad::schema() {
  return Schema<ClipGrad>("Bounds gradients before an update.")
      .optional("type", &ClipGrad::type, "bounds the norm of all gradients, or each value",
                one_of({"norm", "value"}))
      .optional("max_norm", &ClipGrad::max_norm, "largest norm of all gradients together",
                at_least(0))
      .optional("norm_type", &ClipGrad::norm_type, "p of the norm; .inf for the largest value",
                above(0))
      .optional("clip_value", &ClipGrad::clip_value, "largest absolute value of a gradient",
                at_least(0))
      .optional("error_if_nonfinite", &ClipGrad::error_if_nonfinite,
                "ends the run where the norm is infinite or not a number")
      .accepted("foreach", "all gradients are always taken together")
      .validate([](const ClipGrad& c, Problems& problems) {
        if (c.max_norm && c.clip_value) {
          problems.error("clip_value", "either max_norm or clip_value, not both");
        } else if (!c.max_norm && !c.clip_value) {
          problems.error("max_norm", "needs max_norm or clip_value");
        } else if (c.type == "value" && !c.clip_value) {
          problems.error("type", "value needs clip_value");
        } else if (c.clip_value && problems.given("type") && c.type == "norm") {
          problems.error("type", "norm needs max_norm");
        }
      });
}

Schema<OptimWrapperParams> OptimWrapper::schema() {
  using P = OptimWrapperParams;
  return Schema<P>("Updates in full precision, with accumulation and clipping of gradients.")
      .required("optimizer", &P::optimizer, "what changes the parameters")
      .optional("constructor", &P::constructor, "how parameters are divided into groups")
      .optional("paramwise_cfg", &P::paramwise_cfg, "learning rates and weight decays by parameter")
      .optional("accumulative_counts", &P::accumulative_counts,
                "steps whose gradients are averaged for one update", at_least(1))
      .optional("clip_grad", &P::clip_grad, "bound of the gradients");
}

Autocast::Autocast(c10::DeviceType device, std::optional<at::ScalarType> type)
    : device_(device), active_(type.has_value()) {
  if (!active_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(device_);
  old_type_ = at::autocast::get_autocast_dtype(device_);
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, *type);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active_) return;
  // Casts of weights are kept while a scope is open; the next step has other weights.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, old_type_);
}

OptimWrapper::OptimWrapper(const Params& params, torch::nn::Module& model)
    : params_(params), optimizer_(params.optimizer.build()), device_(c10::kCPU) {
  const auto named = model.named_parameters();
  if (!named.is_empty()) device_ = named.front().value().device();
  if (params.paramwise_cfg && !params.paramwise_cfg->empty()) {
    params.constructor.build()->add_groups(*optimizer_, model, *params.paramwise_cfg);
  } else {
    ParamGroup all;
    std::unordered_set<const void*> seen;
    for (const auto& item : named) {
      if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
      all.params.push_back(item.value());
      all.names.push_back(item.key());
    }
    optimizer_->add_group(std::move(all));
  }
  if (optimizer_->groups().size() > 1) {
    base_.emplace();
    for (const auto& [key, value] : optimizer_->defaults().as_dict()) {
      base_->options.set(key, value);
    }
  }
  if (params.accumulative_counts > 1) {
    for (const auto& module : model.modules(/*include_self=*/false)) {
      const auto* norm = dynamic_cast<const Norm*>(module.get());
      if (!norm || !norm->is_batch_norm()) continue;
      log::warn("accumulative_counts: ", params.accumulative_counts,
                ": batch norms still see one batch at a time");
      break;
    }
  }
}

std::unique_ptr<Autocast> OptimWrapper::precision() const { return nullptr; }

void OptimWrapper::set_progress(int64_t done, int64_t total) {
  const int64_t counts = params_.accumulative_counts;
  done_ = done;
  total_ = total;
  remainder_ = total % counts;
  if (done % counts != 0) {
    log::warn("the run begins at step ", done, ", in the middle of ", counts,
              " accumulated steps: the gradients of the first ", done % counts, " are lost");
  }
}

bool OptimWrapper::will_update() const {
  return (done_ + 1) % params_.accumulative_counts == 0 || done_ + 1 == total_;
}

bool OptimWrapper::update_params(const at::Tensor& loss) {
  grad_norm_.reset();
  int64_t factor = params_.accumulative_counts;
  if (factor > 1 && total_ >= 0 && done_ >= total_ - remainder_) factor = remainder_;
  SEG_CHECK(factor > 0, "a step after the last one, ", total_);
  const bool update = will_update();
  backward(factor == 1 ? loss : loss / factor);
  ++done_;
  if (!update) return false;
  step();
  optimizer_->zero_grad(/*set_to_none=*/!keep_gradients_);
  return true;
}

void OptimWrapper::backward(const at::Tensor& loss) { loss.backward(); }

void OptimWrapper::step() {
  if (params_.clip_grad) clip_gradients();
  optimizer_->step();
}

void OptimWrapper::clip_gradients() {
  const at::NoGradGuard no_grad;
  const ClipGrad& clip = *params_.clip_grad;
  std::vector<at::Tensor> grads;
  for (auto& group : optimizer_->groups()) {
    for (auto& param : group.params) {
      if (param.requires_grad() && param.grad().defined()) grads.push_back(param.grad().detach());
    }
  }
  if (grads.empty()) return;
  if (clip.clip_value) {
    at::_foreach_clamp_min_(grads, -*clip.clip_value);
    at::_foreach_clamp_max_(grads, *clip.clip_value);
    return;
  }
  grad_norm_ =
      at::linalg_vector_norm(at::stack(at::_foreach_norm(grads, clip.norm_type)), clip.norm_type);
  if (clip.error_if_nonfinite && !std::isfinite(grad_norm_.item<double>())) {
    throw OptionError("clip_grad", text("the norm of the gradients is ", grad_norm_.item<double>(),
                                        " (error_if_nonfinite)"));
  }
  // The factor stays on the device: asking for it would wait for the whole backward pass.
  const at::Tensor factor = (*clip.max_norm / (grad_norm_ + 1e-6)).clamp_max(1.0);
  at::_foreach_mul_(grads, factor);
}

std::vector<ParamGroup*> OptimWrapper::scheduled_groups() {
  std::vector<ParamGroup*> out;
  for (ParamGroup& group : optimizer_->groups()) out.push_back(&group);
  if (base_) out.push_back(&*base_);
  return out;
}

std::vector<std::pair<std::string, double>> OptimWrapper::learning_rates() const {
  std::vector<std::pair<std::string, double>> out;
  if (base_) out.emplace_back("base_lr", base_->number("lr"));
  if (!optimizer_->groups().empty()) {
    out.emplace_back("lr", optimizer_->groups().front().number("lr"));
  }
  return out;
}

Value OptimWrapper::state_dict() const {
  Value out = optimizer_->state_dict();
  if (base_) {
    Value settings = Value::dict();
    settings.set("params", at::zeros({1}));
    for (const auto& [key, value] : base_->options.as_dict()) settings.set(key, value);
    out.set("base_param_settings", settings);
  }
  return out;
}

void OptimWrapper::load_state_dict(const Value& state) {
  optimizer_->load_state_dict(state);
  const Value* settings = state.find("base_param_settings");
  if (!settings || settings->is_none()) return;
  if (!base_) base_.emplace();
  for (const auto& [key, value] : settings->as_dict()) {
    if (key.as_string() != "params") base_->options.set(key, value);
  }
}

SEG_REGISTER(OptimWrapper, OptimWrapper);

}  // namespace seg
