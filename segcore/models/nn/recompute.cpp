#include "segcore/models/nn/recompute.hpp"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "segcore/memory/recomputation.hpp"
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
  size_t inputs = 0;                            ///< of f, before the weights that it uses
  at::Tensor result;                            ///< of the forward pass, until it is given
};

/// The leaves that a result depends on, without its inputs: the weights.
std::vector<at::Tensor> weights_behind(const at::Tensor& result, at::TensorList inputs) {
  std::vector<at::Tensor> out;
  std::unordered_set<const torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open{result.grad_fn().get()};
  while (!open.empty()) {
    torch::autograd::Node* node = open.back();
    open.pop_back();
    if (!node || !seen.insert(node).second) continue;
    if (const auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      const bool input = std::any_of(inputs.begin(), inputs.end(), [&](const at::Tensor& x) {
        return x.is_same(leaf->variable);
      });
      if (!input) out.push_back(leaf->variable);
    }
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return out;
}

std::vector<at::Tensor> detached_inputs(at::TensorList inputs) {
  std::vector<at::Tensor> out;
  for (const auto& x : inputs) out.push_back(x.detach().requires_grad_(x.requires_grad()));
  return out;
}

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
  /// \param inputs  those of f, then the weights that it uses: they are part of the graph, so that
  ///                what looks for the parameters of a loss finds them.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, at::TensorList inputs,
                            const c10::intrusive_ptr<RecomputeState>& state) {
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["state"] = c10::IValue::make_capsule(state);
    return std::exchange(state->result, {});
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list gradients) {
    const auto capsule = ctx->saved_data["state"].toCapsule();
    const auto& state = static_cast<const RecomputeState&>(*capsule);
    const auto saved = ctx->get_saved_variables();
    const auto inputs = detached_inputs(at::TensorList(saved).slice(0, state.inputs));
    torch::autograd::variable_list wanted;
    for (size_t i = 0; i < saved.size(); ++i) {
      const at::Tensor& x = i < state.inputs ? inputs[i] : saved[i];
      if (x.requires_grad()) wanted.push_back(x);
    }
    at::Tensor y;
    {
      const at::AutoGradMode grad(true);
      const RecomputeScope scope(state);
      y = state.f(inputs);
    }
    const auto found = torch::autograd::grad({y}, wanted, {gradients[0]}, std::nullopt,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    torch::autograd::variable_list out;
    size_t next = 0;
    for (const auto& x : saved) out.push_back(x.requires_grad() ? found[next++] : at::Tensor());
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
  state->inputs = inputs.size();
  auto all = inputs.vec();
  {
    // With its graph, which says what weights f uses and is let go with this scope.
    const auto own = detached_inputs(inputs);
    const PausesRecomputations whole;
    const at::Tensor result = f(own);
    for (auto& weight : weights_behind(result, own)) all.push_back(std::move(weight));
    state->result = result.detach();
  }
  return RecomputeFunction::apply(at::TensorList(all), state);
}

at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x) {
  return recompute_of([f](at::TensorList inputs) { return f(inputs[0]); }, {x});
}

}  // namespace seg
