#include <ATen/Functions.h>

#include "runners/optim/optimizer.hpp"

namespace seg {

struct SGDParams : HyperParamsOf<SGDParams> {
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;
  bool maximize = false;
  std::string state_dtype = "float32";

  static const List& list() {
    using P = SGDParams;
    static const List names{{"lr", &P::lr},
                            {"momentum", &P::momentum},
                            {"dampening", &P::dampening},
                            {"weight_decay", &P::weight_decay},
                            {"nesterov", &P::nesterov},
                            {"maximize", &P::maximize},
                            {"foreach", Value()},
                            {"differentiable", Value(false)},
                            {"fused", Value()}};
    return names;
  }
  double* scheduled_momentum() override { return &momentum; }
  static Schema<SGDParams> schema() {
    return Schema<SGDParams>("Stochastic gradient descent with momentum.")
        .source(
            "Sutskever et al. 2013, On the importance of initialization and momentum in deep "
            "learning")
        .optional("lr", &SGDParams::lr, "learning rate", at_least(0))
        .optional("momentum", &SGDParams::momentum, "share of the last step that is kept",
                  at_least(0))
        .optional("dampening", &SGDParams::dampening,
                  "share of the gradient that momentum leaves out")
        .optional("weight_decay", &SGDParams::weight_decay, "strength of the L2 penalty",
                  at_least(0))
        .optional("nesterov", &SGDParams::nesterov, "take the gradient ahead of the step")
        .optional("maximize", &SGDParams::maximize, "ascend the gradient")
        .optional("state_dtype", &SGDParams::state_dtype, kStateDtypeMeaning,
                  one_of({"float32", "bfloat16", "int8"}))
        .accepted("foreach", "parameters are always updated together")
        .accepted("fused", "the fused kernels are always used")
        .accepted("differentiable", "updates are never differentiated")
        .validate([](const SGDParams& p, Problems& problems) {
          if (p.nesterov && (p.momentum <= 0 || p.dampening != 0)) {
            problems.error("nesterov", "needs a momentum above 0 and no dampening");
          }
          if (p.momentum == 0 && p.state_dtype != "float32") {
            problems.warn("state_dtype", "has no effect while momentum is 0");
          }
        });
  }
};

class SGD final : public Optimizer {
 public:
  using Params = SGDParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit SGD(const SGDParams& p) : Optimizer(p.copy(), state_dtype_of(p.state_dtype)) {}

 private:
  std::vector<Kept> kept() const override { return {{"momentum_buffer", false}}; }

  void update(ParameterBatch& b) override {
    const auto& h = static_cast<const SGDParams&>(*b.hyper);
    if (h.momentum == 0) {
      apply(b.params, b.grads, {}, h, false, b.found_inf);
      return;
    }
    // The first step takes the gradient itself as the momentum. Without dampening, a momentum of
    // zeros gives the same, and nothing is lost where a scaler skips the step.
    const bool dampened = h.dampening != 0;
    if (dampened && b.found_inf.defined() && b.found_inf.item<float>() != 0) return;
    ParameterBatch compact = take_compact(b);
    update_compact(compact);
    std::vector<at::Tensor> params[2], grads[2], buffers[2];
    for (size_t i = 0; i < b.params.size(); ++i) {
      at::Tensor& buffer = (*b.states[i])["momentum_buffer"];
      const bool first = !buffer.defined();
      if (first) buffer = at::zeros_like(b.params[i]);
      const size_t kind = first && dampened ? 1 : 0;
      params[kind].push_back(b.params[i]);
      grads[kind].push_back(b.grads[i]);
      buffers[kind].push_back(buffer);
    }
    for (const size_t kind : {0, 1}) {
      if (params[kind].empty()) continue;
      apply(params[kind], grads[kind], buffers[kind], h, kind == 1, b.found_inf);
    }
  }

  void update_compact(ParameterBatch& b) {
    if (b.params.empty() || b.skips()) return;
    const auto& h = static_cast<const SGDParams&>(*b.hyper);
    SgdStep step{.lr = h.lr,
                 .momentum = h.momentum,
                 .dampening = h.dampening,
                 .weight_decay = h.weight_decay,
                 .nesterov = h.nesterov,
                 .maximize = h.maximize};
    for (size_t i = 0; i < b.params.size(); ++i) {
      step.first = b.states[i]->empty();
      const KeptMean mean = kept_mean(*b.states[i], "momentum_buffer", b.params[i]);
      sgd_step_(b.params[i], b.grads[i], mean, step, b.keys[i]);
    }
  }

  static void apply(at::TensorList params, at::TensorList grads, at::TensorList buffers,
                    const SGDParams& h, bool first, const at::Tensor& found_inf) {
    at::_fused_sgd_(
        params, grads, buffers, h.weight_decay, h.momentum, h.lr, h.dampening, h.nesterov,
        h.maximize, first, {},
        found_inf.defined() ? std::optional(found_inf.to(params[0].device())) : std::nullopt);
  }
};
SEG_REGISTER(Optimizer, SGD);

}  // namespace seg
