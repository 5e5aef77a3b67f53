// Optimizers that scale steps by past gradients: Adagrad, Adadelta, RMSprop, Rprop.
#include <ATen/Functions.h>

#include <cmath>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {

struct AdagradParams : HyperParamsOf<AdagradParams> {
  double lr_decay = 0;
  double initial_accumulator_value = 0;
  double eps = 1e-10;
  bool maximize = false;
  AdagradParams() { lr = 1e-2; }

  static const List& list() {
    using P = AdagradParams;
    static const List names{{"lr", &P::lr},
                            {"lr_decay", &P::lr_decay},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"initial_accumulator_value", &P::initial_accumulator_value},
                            {"foreach", Value()},
                            {"maximize", &P::maximize},
                            {"differentiable", Value(false)},
                            {"fused", Value()}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<AdagradParams> schema() {
    using P = AdagradParams;
    return unfused_schema<P>("Steps divided by the root of the sum of all squared gradients.")
        .source("Duchi et al. 2011, Adaptive subgradient methods")
        .optional("lr_decay", &P::lr_decay, "the rate falls as 1 / (1 + lr_decay * step)",
                  at_least(0))
        .optional("initial_accumulator_value", &P::initial_accumulator_value,
                  "the sum at the beginning", at_least(0))
        .optional("eps", &P::eps, "added to the root", at_least(0));
  }
};

class Adagrad final : public UnfusedOptimizer<AdagradParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override { return {{"step", true}, {"sum", true}}; }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const AdagradParams& h) override {
    const double step = next_step(state);
    at::Tensor& sum = state["sum"];
    if (!sum.defined()) sum = at::full_like(param, h.initial_accumulator_value);
    sum.addcmul_(grad, grad);
    param.addcdiv_(grad, sum.sqrt().add_(h.eps), -h.lr / (1 + (step - 1) * h.lr_decay));
  }
};
SEG_REGISTER(Optimizer, Adagrad);

struct AdadeltaParams : HyperParamsOf<AdadeltaParams> {
  double rho = 0.9;
  double eps = 1e-6;
  bool maximize = false;
  AdadeltaParams() { lr = 1; }

  static const List& list() {
    using P = AdadeltaParams;
    static const List names{{"lr", &P::lr},
                            {"rho", &P::rho},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"maximize", &P::maximize},
                            {"capturable", Value(false)},
                            {"foreach", Value()},
                            {"differentiable", Value(false)}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<AdadeltaParams> schema() {
    using P = AdadeltaParams;
    return unfused_schema<P>("Steps in the ratio of past steps to past gradients.")
        .source("Zeiler 2012, arXiv:1212.5701")
        .optional("rho", &P::rho, "decay of both running means", in_range(0, 1))
        .optional("eps", &P::eps, "added to both means", at_least(0));
  }
};

class Adadelta final : public UnfusedOptimizer<AdadeltaParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"square_avg", true}, {"acc_delta", true}};
  }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const AdadeltaParams& h) override {
    next_step(state);
    at::Tensor& squares = zeros_at_first(state, "square_avg", param);
    at::Tensor& deltas = zeros_at_first(state, "acc_delta", param);
    squares.mul_(h.rho).addcmul_(grad, grad, 1 - h.rho);
    const at::Tensor delta = deltas.add(h.eps).sqrt_().div_(squares.add(h.eps).sqrt_()).mul_(grad);
    deltas.mul_(h.rho).addcmul_(delta, delta, 1 - h.rho);
    param.add_(delta, -h.lr);
  }
};
SEG_REGISTER(Optimizer, Adadelta);

struct RMSpropParams : HyperParamsOf<RMSpropParams> {
  double alpha = 0.99;
  double eps = 1e-8;
  double momentum = 0;
  bool centered = false;
  bool maximize = false;
  RMSpropParams() { lr = 1e-2; }

  static const List& list() {
    using P = RMSpropParams;
    static const List names{{"lr", &P::lr},
                            {"momentum", &P::momentum},
                            {"alpha", &P::alpha},
                            {"eps", &P::eps},
                            {"centered", &P::centered},
                            {"weight_decay", &P::weight_decay},
                            {"capturable", Value(false)},
                            {"foreach", Value()},
                            {"maximize", &P::maximize},
                            {"differentiable", Value(false)}};
    return names;
  }
  double* scheduled_momentum() override { return &momentum; }
  double* epsilon() override { return &eps; }
  static Schema<RMSpropParams> schema() {
    using P = RMSpropParams;
    return unfused_schema<P>("Steps divided by the root of a running mean of squared gradients.")
        .source("Hinton, lecture 6e of Neural networks for machine learning, 2012")
        .optional("alpha", &P::alpha, "decay of the running mean", in_range(0, 1))
        .optional("eps", &P::eps, "added to the root", at_least(0))
        .optional("momentum", &P::momentum, "share of the last step that is kept", at_least(0))
        .optional("centered", &P::centered, "divide by the variance and not the mean square");
  }
};

class RMSprop final : public UnfusedOptimizer<RMSpropParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"square_avg", true}, {"momentum_buffer", false}, {"grad_avg", false}};
  }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const RMSpropParams& h) override {
    next_step(state);
    at::Tensor& squares = zeros_at_first(state, "square_avg", param);
    squares.mul_(h.alpha).addcmul_(grad, grad, 1 - h.alpha);
    at::Tensor root;
    if (h.centered) {
      at::Tensor& mean = zeros_at_first(state, "grad_avg", param);
      mean.lerp_(grad, 1 - h.alpha);
      root = squares.addcmul(mean, mean, -1).sqrt_();
    } else {
      root = squares.sqrt();
    }
    root.add_(h.eps);
    if (h.momentum > 0) {
      at::Tensor& buffer = zeros_at_first(state, "momentum_buffer", param);
      buffer.mul_(h.momentum).addcdiv_(grad, root);
      param.add_(buffer, -h.lr);
    } else {
      param.addcdiv_(grad, root, -h.lr);
    }
  }
};
SEG_REGISTER(Optimizer, RMSprop);

struct RpropParams : HyperParamsOf<RpropParams> {
  std::array<double, 2> etas{0.5, 1.2};
  std::array<double, 2> step_sizes{1e-6, 50};
  bool maximize = false;
  RpropParams() { lr = 1e-2; }

  static const List& list() {
    using P = RpropParams;
    static const List names{{"lr", &P::lr},
                            {"etas", &P::etas},
                            {"step_sizes", &P::step_sizes},
                            {"foreach", Value()},
                            {"maximize", &P::maximize},
                            {"differentiable", Value(false)},
                            {"capturable", Value(false)}};
    return names;
  }
  static Schema<RpropParams> schema() {
    using P = RpropParams;
    return Schema<P>("Steps by the signs of gradients, which grow until a sign changes.")
        .source("Riedmiller and Braun 1993, A direct adaptive method for faster backpropagation")
        .optional("lr", &P::lr, "the first step of every weight", at_least(0))
        .optional("etas", &P::etas, "factors of a step after a changed and after an equal sign")
        .optional("step_sizes", &P::step_sizes, "the least and the largest step")
        .optional("maximize", &P::maximize, "ascend the gradient")
        .accepted("foreach", "parameters are updated one by one")
        .accepted("capturable", "of CUDA graphs in Python")
        .accepted("differentiable", "updates are never differentiated")
        .validate([](const P& p, Problems& problems) {
          if (!(p.etas[0] > 0 && p.etas[0] < 1 && p.etas[1] > 1)) {
            problems.error("etas", "the first must lie between 0 and 1, the second above 1");
          }
        });
  }
};

class Rprop final : public UnfusedOptimizer<RpropParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"prev", true}, {"step_size", true}};
  }
  void step_one(const at::Tensor& param, const at::Tensor& given, State& state,
                const RpropParams& h) override {
    next_step(state);
    at::Tensor& previous = zeros_at_first(state, "prev", param);
    at::Tensor& size = state["step_size"];
    if (!size.defined()) size = at::full_like(param, h.lr);
    const at::Tensor agreement = given.mul(previous).sign();
    at::Tensor factor = at::ones_like(agreement);
    factor.masked_fill_(agreement.gt(0), h.etas[1]).masked_fill_(agreement.lt(0), h.etas[0]);
    size.mul_(factor).clamp_(h.step_sizes[0], h.step_sizes[1]);
    // After a changed sign no step is made, and the next one counts as equal to none.
    const at::Tensor grad = given.masked_fill(agreement.lt(0), 0);
    param.addcmul_(grad.sign(), size, -1);
    previous.copy_(grad);
  }
};
SEG_REGISTER(Optimizer, Rprop);

}  // namespace seg
