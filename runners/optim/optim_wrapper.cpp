#include "runners/optim/optim_wrapper.hpp"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "registry/log.hpp"
#include "segcore/memory/device_memory.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

Schema<ClipGrad> ClipGrad::schema() {
  return Schema<ClipGrad>("Bounds gradients before an update.")
      .optional("type", &ClipGrad::type, "bound the norm of all gradients, or each value",
                one_of({"norm", "value"}))
      .optional("max_norm", &ClipGrad::max_norm, "largest norm of all gradients", at_least(0))
      .optional("norm_type", &ClipGrad::norm_type, "p of the norm; .inf for the largest value",
                above(0))
      .optional("clip_value", &ClipGrad::clip_value, "largest absolute value of a gradient",
                at_least(0))
      .optional("error_if_nonfinite", &ClipGrad::error_if_nonfinite,
                "end the run where the norm is infinite or not a number")
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
      .optional("clip_grad", &P::clip_grad, "bound of the gradients")
      .optional(
          "cuda_graph", &P::cuda_graph,
          "auto: on a GPU, record the forward and backward pass once and replay it where that "
          "works; false: start each kernel")
      .optional("memory", &P::memory,
                "save: the backward pass recomputes blocks of the model, so that a step fits into "
                "memory_limit; same numbers, slower",
                one_of({"fast", "save"}))
      .optional("memory_limit", &P::memory_limit,
                "with memory: save, of each process: a size such as 8GB, bytes, or a share of the "
                "device's memory up to 1; null: nine tenths of what is free")
      .validate([](const P& p, Problems& problems) {
        const auto* word = std::get_if<std::string>(&p.cuda_graph);
        if (word && *word != "auto") {
          problems.error("cuda_graph", "expected auto or false, got '" + *word + "'");
        } else if (p.memory == "save" && p.cuda_graph != CudaGraph(false)) {
          problems.warn("cuda_graph", "has no effect with memory: save");
        }
        if (!p.memory_limit) return;
        if (!limit_bytes(*p.memory_limit, /*total=*/1'000'000'000)) {
          problems.error("memory_limit",
                         "expected a size such as 8GB, a number of bytes, or a share of the "
                         "device's memory up to 1, got '" +
                             Convert<MemoryLimit>::show(*p.memory_limit) + "'");
        } else if (p.memory == "fast") {
          problems.warn("memory_limit", "has no effect without memory: save");
        }
      });
}

OptimWrapper::OptimWrapper(const Params& params, torch::nn::Module& model)
    : params_(params), optimizer_(params.optimizer.build()), device_(c10::kCPU) {
  const auto named = model.named_parameters();
  if (!named.is_empty()) device_ = named.front().value().device();
  if (params.paramwise_cfg && !params.paramwise_cfg->empty()) {
    params.constructor.build()->add_groups(*optimizer_, model, *params.paramwise_cfg);
  } else {
    ParamGroup all = optimizer_->new_group();
    std::unordered_set<const void*> seen;
    for (const auto& item : named) {
      if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
      all.params.push_back(item.value());
      all.names.push_back(item.key());
    }
    optimizer_->add_group(std::move(all));
  }
  if (optimizer_->groups().size() > 1) base_ = optimizer_->new_group();
  if (params.memory == "save") {
    std::optional<int64_t> limit;
    if (params.memory_limit) limit = limit_bytes(*params.memory_limit, total_memory(device_));
    memory_ = std::make_unique<StepMemory>(model, device_, limit);
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

std::unique_ptr<FollowsPlan> OptimWrapper::recomputations(const at::Tensor& images) {
  if (!memory_) return nullptr;
  int64_t gradients = 0;
  // Those that are kept are held between updates as well.
  for (const ParamGroup& group : optimizer_->groups()) {
    for (const at::Tensor& param : group.params) {
      const at::Tensor& grad = param.grad();
      if (grad.defined() && !keep_gradients_) gradients += grad.numel() * grad.element_size();
    }
  }
  return memory_->begin(images, gradients);
}

void OptimWrapper::set_progress(int64_t done, int64_t total, const Value& accumulated) {
  const int64_t counts = params_.accumulative_counts;
  done_ = done;
  total_ = total;
  remainder_ = total % counts;
  const int64_t steps = done < total ? done % counts : 0;
  const int64_t given = accumulated.is_none() ? 0 : accumulated.at("steps").as_int();
  if (given == steps) {
    if (steps > 0) take_gradients(accumulated);
    return;
  }
  log::warn("the run starts at step ", done, ", after ", steps, " of ", counts,
            " accumulated steps, and the checkpoint holds the gradients of ", given,
            given == 1 ? " step" : " steps", ": gradients are lost");
}

Value OptimWrapper::accumulated() const {
  const int64_t steps = done_ == total_ ? 0 : done_ % params_.accumulative_counts;
  if (steps == 0) return {};
  ValueDict gradients;
  for (const ParamGroup& group : optimizer_->groups()) {
    for (size_t i = 0; i < group.params.size(); ++i) {
      const at::Tensor& grad = group.params[i].grad();
      if (grad.defined()) gradients.emplace_back(group.names.at(i), grad.detach());
    }
  }
  Value out = Value::dict();
  out.set("steps", steps);
  out.set("loss_weight", loss_weight());
  out.set("gradients", Value::dict(std::move(gradients)));
  return out;
}

void OptimWrapper::take_gradients(const Value& accumulated) {
  const at::NoGradGuard no_grad;
  std::unordered_map<std::string, at::Tensor> params;
  for (const ParamGroup& group : optimizer_->groups()) {
    for (size_t i = 0; i < group.params.size(); ++i) params[group.names.at(i)] = group.params[i];
  }
  // Another number of steps or scale of the loss than the run had that wrote them.
  const double ratio = loss_weight() / accumulated.at("loss_weight").as_float();
  for (const auto& [name, saved] : accumulated.at("gradients").as_dict()) {
    const auto found = params.find(name.as_string());
    if (found == params.end() || found->second.sizes() != saved.as_tensor().sizes()) {
      throw CheckpointError(
          text("the accumulated gradient of ", name.as_string(), " has shape ",
               saved.as_tensor().sizes(), ", the model has ",
               found == params.end() ? "no such parameter" : text(found->second.sizes())));
    }
    // In memory as the parameter is, as backward passes leave it.
    at::Tensor grad = at::empty_like(found->second.detach()).copy_(saved.as_tensor());
    if (ratio != 1) grad.mul_(ratio);
    found->second.mutable_grad() = grad;
  }
}

int64_t OptimWrapper::accumulation_length() const {
  const int64_t counts = params_.accumulative_counts;
  return counts > 1 && total_ >= 0 && done_ >= total_ - remainder_ ? remainder_ : counts;
}

bool OptimWrapper::will_update() const {
  return (done_ + 1) % params_.accumulative_counts == 0 || done_ + 1 == total_;
}

at::Tensor OptimWrapper::scale_loss(const at::Tensor& loss) const {
  const int64_t factor = accumulation_length();
  SEG_CHECK(factor > 0, "a step after the last one, ", total_);
  return factor == 1 ? loss : loss / factor;
}

bool OptimWrapper::step() {
  if (memory_) memory_->end();
  grad_norm_.reset();
  const bool updates = will_update();
  ++done_;
  if (!updates) return false;
  update();
  optimizer_->zero_grad(/*set_to_none=*/!keep_gradients_);
  return true;
}

void OptimWrapper::update() {
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
  if (base_) out.emplace_back("base_lr", base_->hyper->lr);
  if (!optimizer_->groups().empty()) {
    out.emplace_back("lr", optimizer_->groups().front().hyper->lr);
  }
  return out;
}

Value OptimWrapper::state_dict() const {
  Value out = optimizer_->state_dict();
  if (base_) {
    Value settings = Value::dict();
    settings.set("params", at::zeros({1}));
    const Value options = base_->options();
    for (const auto& [key, value] : options.as_dict()) settings.set(key, value);
    out.set("base_param_settings", settings);
  }
  return out;
}

void OptimWrapper::load_state_dict(const Value& state) {
  optimizer_->load_state_dict(state);
  const Value* settings = state.find("base_param_settings");
  if (!settings || settings->is_none()) return;
  if (!base_) base_ = optimizer_->new_group();
  base_->read_options(*settings);
}

SEG_REGISTER(OptimWrapper, OptimWrapper);

}  // namespace seg
