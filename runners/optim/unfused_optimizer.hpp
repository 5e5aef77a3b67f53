/// Optimizers for which LibTorch has no fused kernels: parameter by parameter.
#pragma once
#include <ATen/Functions.h>

#include <string>

#include "runners/optim/optimizer.hpp"

namespace seg {

/// The options that all have; those of one optimizer follow.
template <class P>
Schema<P> unfused_schema(const char* summary) {
  return Schema<P>(summary)
      .optional("lr", &P::lr, "learning rate", at_least(0))
      .optional("weight_decay", &P::weight_decay, "strength of the L2 penalty", at_least(0))
      .optional("maximize", &P::maximize, "ascend the gradient")
      .accepted("foreach", "parameters are updated one by one")
      .accepted("fused", "there is no fused kernel")
      .accepted("capturable", "of CUDA graphs in Python")
      .accepted("differentiable", "updates are never differentiated");
}

/// \tparam P  hyper-parameters with `maximize`, of HyperParamsOf<P>
template <class P>
class UnfusedOptimizer : public Optimizer {
 public:
  using Params = P;
  static Schema<P> schema() { return P::schema(); }
  explicit UnfusedOptimizer(const P& p) : Optimizer(p.copy()) {}

 protected:
  /// Updates a parameter. \param grad  with the L2 penalty, of the direction to descend.
  virtual void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                        const P& hyper) = 0;
  /// Whether `weight_decay` is an L2 penalty; else step_one decays the weights itself.
  virtual bool penalises(const P&) const { return true; }

  /// Counts a step in the state's "step". \return how many there are
  static double next_step(State& state) {
    at::Tensor& step = state["step"];
    // A float on the CPU, as torch.optim keeps it: reading it waits for no device.
    if (!step.defined()) step = at::zeros({}, at::kFloat);
    return step.add_(1).template item<double>();
  }
  static at::Tensor& zeros_at_first(State& state, const char* name, const at::Tensor& param) {
    at::Tensor& value = state[name];
    if (!value.defined()) value = at::zeros_like(param);
    return value;
  }

 private:
  void update(ParameterBatch& batch) override {
    const auto& hyper = static_cast<const P&>(*batch.hyper);
    if (batch.found_inf.defined() && batch.found_inf.template item<float>() != 0) return;
    for (size_t i = 0; i < batch.params.size(); ++i) {
      const at::Tensor& param = batch.params[i];
      at::Tensor grad = hyper.maximize ? batch.grads[i].neg() : batch.grads[i];
      if (hyper.weight_decay != 0 && penalises(hyper)) grad = grad.add(param, hyper.weight_decay);
      step_one(param, grad, *batch.states[i], hyper);
    }
  }
};

}  // namespace seg
