#include <ATen/Functions.h>

#include <cmath>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {

struct ASGDParams : HyperParamsOf<ASGDParams> {
  double lambd = 1e-4;
  double alpha = 0.75;
  double t0 = 1e6;
  bool maximize = false;
  ASGDParams() { lr = 1e-2; }

  static const List& list() {
    using P = ASGDParams;
    static const List names{{"lr", &P::lr},
                            {"lambd", &P::lambd},
                            {"alpha", &P::alpha},
                            {"t0", &P::t0},
                            {"weight_decay", &P::weight_decay},
                            {"foreach", Value()},
                            {"maximize", &P::maximize},
                            {"differentiable", Value(false)},
                            {"capturable", Value(false)}};
    return names;
  }
  static Schema<ASGDParams> schema() {
    using P = ASGDParams;
    return unfused_schema<P>("Stochastic gradient descent that also keeps the mean of its weights.")
        .source("Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging")
        .optional("lambd", &P::lambd, "decay of the weights", at_least(0))
        .optional("alpha", &P::alpha, "power with which the rate falls", at_least(0))
        .optional("t0", &P::t0, "step at which the mean begins", at_least(0));
  }
};

class ASGD final : public UnfusedOptimizer<ASGDParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"eta", true}, {"mu", true}, {"ax", true}};
  }
  std::vector<int64_t> kept_shape(const std::string& name, const at::Tensor& param) const override {
    return name == "ax" ? param.sizes().vec() : std::vector<int64_t>{};
  }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const ASGDParams& h) override {
    at::Tensor& rate = state["eta"];
    at::Tensor& share = state["mu"];
    if (!rate.defined()) rate = at::full({}, h.lr, at::kFloat);
    if (!share.defined()) share = at::ones({}, at::kFloat);
    at::Tensor& mean = zeros_at_first(state, "ax", param);
    const double step = next_step(state);
    const double eta = rate.item<double>(), mu = share.item<double>();
    param.mul_(1 - h.lambd * eta);
    param.add_(grad, -eta);
    if (mu == 1) {
      mean.copy_(param);
    } else {
      mean.add_(param.sub(mean).mul_(mu));
    }
    rate.fill_(h.lr / std::pow(1 + h.lambd * h.lr * step, h.alpha));
    share.fill_(1 / std::max(1.0, step - h.t0));
  }
};
SEG_REGISTER(Optimizer, ASGD);

}  // namespace seg
