#include <ATen/Functions.h>

#include "runners/optim/optimizer.hpp"

namespace seg {

struct SGDParams {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;
  static Schema<SGDParams> schema() {
    return Schema<SGDParams>("Stochastic gradient descent with momentum.")
        .source(
            "Sutskever et al. 2013, On the importance of initialization and momentum in deep "
            "learning")
        .optional("lr", &SGDParams::lr, "learning rate", at_least(0))
        .optional("momentum", &SGDParams::momentum, "share of the last step that goes on",
                  at_least(0))
        .optional("dampening", &SGDParams::dampening,
                  "share of the gradient that momentum leaves "
                  "out")
        .optional("weight_decay", &SGDParams::weight_decay, "strength of the L2 penalty",
                  at_least(0))
        .optional("nesterov", &SGDParams::nesterov, "takes the gradient ahead of the step")
        .optional("maximize", &SGDParams::maximize, "goes up the gradient")
        .accepted("foreach", "parameters are always updated together")
        .accepted("fused", "the fused kernels are always used")
        .accepted("differentiable", "updates are never differentiated")
        .validate([](const SGDParams& p, Problems& problems) {
          if (p.nesterov && (p.momentum <= 0 || p.dampening != 0)) {
            problems.error("nesterov", "needs a momentum above 0 and no dampening");
          }
        });
  }
};

class SGD final : public Optimizer {
 public:
  using Params = SGDParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit SGD(const SGDParams& p) : Optimizer(options_of(p)) {}

 private:
  enum { kLr, kMomentum, kDampening, kDecay, kNesterov, kMaximize };

  std::vector<double> numbers(const ParamGroup& group) const override {
    return {group.number("lr"),           group.number("momentum"), group.number("dampening"),
            group.number("weight_decay"), group.number("nesterov"), group.number("maximize")};
  }

  std::vector<Kept> kept() const override { return {{"momentum_buffer", false}}; }

  void update(Bunch& b) override {
    if (b.numbers[kMomentum] == 0) {
      apply(b.params, b.grads, {}, b.numbers, false, b.found_inf);
      return;
    }
    // The first step takes the gradient itself for the momentum. Without dampening that is what
    // momentum of zeros gives, too, and nothing is lost where a scaler leaves the step out.
    const bool dampened = b.numbers[kDampening] != 0;
    if (dampened && b.found_inf.defined() && b.found_inf.item<float>() != 0) return;
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
      apply(params[kind], grads[kind], buffers[kind], b.numbers, kind == 1, b.found_inf);
    }
  }

  static void apply(at::TensorList params, at::TensorList grads, at::TensorList buffers,
                    const std::vector<double>& n, bool first, const at::Tensor& found_inf) {
    at::_fused_sgd_(
        params, grads, buffers, n[kDecay], n[kMomentum], n[kLr], n[kDampening], n[kNesterov] != 0,
        n[kMaximize] != 0, first, {},
        found_inf.defined() ? std::optional(found_inf.to(params[0].device())) : std::nullopt);
  }

  static Value options_of(const SGDParams& p) {
    Value v = Value::dict();
    v.set("lr", p.lr);
    v.set("momentum", p.momentum);
    v.set("dampening", p.dampening);
    v.set("weight_decay", p.weight_decay);
    v.set("nesterov", p.nesterov);
    v.set("maximize", p.maximize);
    v.set("foreach", Value());
    v.set("differentiable", false);
    v.set("fused", Value());
    return v;
  }
};
SEG_REGISTER(Optimizer, SGD);

}  // namespace seg
