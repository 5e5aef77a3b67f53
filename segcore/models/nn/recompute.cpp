#include "segcore/models/nn/recompute.hpp"

#include <ATen/autocast_mode.h>

#include <algorithm>

#include "segcore/models/nn/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using TensorFunction = std::function<at::Tensor(at::TensorList)>;

/// The state that f depends on beside its inputs and the weights.
struct RecomputeState : torch::CustomClassHolder {
  TensorFunction f;
  at::DeviceType device;
  at::Tensor cpu_random, device_random;
  std::optional<c10::Device> random_device;
  std::optional<at::ScalarType> autocast_type;  ///< none: off
};

at::Generator recompute_generator(c10::Device device) {
  return at::globalContext().defaultGenerator(device);
}

at::Tensor random_state(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// Sets generators and autocast as they were in the forward pass; undoes that when it ends.
class RecomputeScope {
 public:
  explicit RecomputeScope(const RecomputeState& s)
      : state_(s), precision_(s.device, s.autocast_type) {
    cpu_ = random_state(recompute_generator(at::kCPU));
    set_random_state(recompute_generator(at::kCPU), s.cpu_random);
    if (s.random_device) {
      device_ = random_state(recompute_generator(*s.random_device));
      set_random_state(recompute_generator(*s.random_device), s.device_random);
    }
  }
  ~RecomputeScope() {
    set_random_state(recompute_generator(at::kCPU), cpu_);
    if (state_.random_device) set_random_state(recompute_generator(*state_.random_device), device_);
  }
  RecomputeScope(const RecomputeScope&) = delete;
  RecomputeScope& operator=(const RecomputeScope&) = delete;

 private:
  const RecomputeState& state_;
  const Autocast precision_;
  at::Tensor cpu_, device_;
};

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, at::TensorList inputs,
                            const c10::intrusive_ptr<RecomputeState>& state) {
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["state"] = c10::IValue::make_capsule(state);
    return state->f(inputs);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list gradients) {
    const auto capsule = ctx->saved_data["state"].toCapsule();
    const auto& state = static_cast<const RecomputeState&>(*capsule);
    auto inputs = ctx->get_saved_variables();
    for (auto& x : inputs) x = x.detach().requires_grad_(x.requires_grad());
    at::Tensor y;
    {
      const at::AutoGradMode grad(true);
      const RecomputeScope scope(state);
      y = state.f(inputs);
    }
    torch::autograd::backward({y}, {gradients[0]});
    torch::autograd::variable_list out;
    for (const auto& x : inputs) out.push_back(x.grad());
    out.emplace_back();  // of the state
    return out;
  }
};

}  // namespace

at::Tensor recompute_of(const TensorFunction& f, at::TensorList inputs) {
  const bool needed =
      std::any_of(inputs.begin(), inputs.end(), [](const auto& x) { return x.requires_grad(); });
  if (!at::GradMode::is_enabled() || !needed) return f(inputs);
  const at::Tensor& x = inputs.front();
  auto state = c10::make_intrusive<RecomputeState>();
  state->f = f;
  state->device = x.device().type();
  state->cpu_random = random_state(recompute_generator(at::kCPU));
  if (!x.is_cpu()) {
    state->random_device = x.device();
    state->device_random = random_state(recompute_generator(x.device()));
  }
  if (at::autocast::is_autocast_enabled(state->device)) {
    state->autocast_type = at::autocast::get_autocast_dtype(state->device);
  }
  return RecomputeFunction::apply(inputs, state);
}

at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x) {
  return recompute_of([f](at::TensorList inputs) { return f(inputs[0]); }, {x});
}

}  // namespace seg
