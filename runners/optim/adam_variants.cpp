// Relatives of Adam: Adamax, NAdam, RAdam, and Lion.
#include <ATen/Functions.h>

#include <cmath>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {

struct AdamaxParams : BetaParamsOf<AdamaxParams> {
  double eps = 1e-8;
  bool maximize = false;
  AdamaxParams() { lr = 2e-3; }

  static const List& list() {
    using P = AdamaxParams;
    static const List names{{"lr", &P::lr},
                            {"betas", &P::betas},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"foreach", Value()},
                            {"maximize", &P::maximize},
                            {"differentiable", Value(false)},
                            {"capturable", Value(false)}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<AdamaxParams> schema() {
    using P = AdamaxParams;
    return unfused_schema<P>(
               "Adam with the largest past gradient in place of the root mean square.")
        .source("Adam, Kingma and Ba 2015, arXiv:1412.6980, section 7.1")
        .optional("betas", &P::betas, "decay of the mean and of the maximum", in_range(0, 1))
        .optional("eps", &P::eps, "added to the gradient's size", at_least(0));
  }
};

class Adamax final : public UnfusedOptimizer<AdamaxParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"exp_avg", true}, {"exp_inf", true}};
  }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const AdamaxParams& h) override {
    const double step = next_step(state);
    at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
    at::Tensor& largest = zeros_at_first(state, "exp_inf", param);
    mean.lerp_(grad, 1 - h.betas[0]);
    largest.copy_(at::maximum(largest.mul(h.betas[1]), grad.abs().add_(h.eps)));
    param.addcdiv_(mean, largest, -h.lr / (1 - std::pow(h.betas[0], step)));
  }
};
SEG_REGISTER(Optimizer, Adamax);

struct NAdamParams : BetaParamsOf<NAdamParams> {
  double eps = 1e-8;
  double momentum_decay = 4e-3;
  bool decoupled_weight_decay = false;
  bool maximize = false;
  NAdamParams() { lr = 2e-3; }

  static const List& list() {
    using P = NAdamParams;
    static const List names{{"lr", &P::lr},
                            {"betas", &P::betas},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"momentum_decay", &P::momentum_decay},
                            {"decoupled_weight_decay", &P::decoupled_weight_decay},
                            {"maximize", &P::maximize},
                            {"foreach", Value()},
                            {"capturable", Value(false)},
                            {"differentiable", Value(false)}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<NAdamParams> schema() {
    using P = NAdamParams;
    return unfused_schema<P>("Adam with Nesterov's momentum.")
        .source("Dozat 2016, Incorporating Nesterov momentum into Adam")
        .optional("betas", &P::betas, "decay of the two running means", in_range(0, 1))
        .optional("eps", &P::eps, "added to the root of the mean square", at_least(0))
        .optional("momentum_decay", &P::momentum_decay, "how fast momentum rises to its value",
                  at_least(0))
        .optional("decoupled_weight_decay", &P::decoupled_weight_decay,
                  "shrink the weights themselves, as AdamW does");
  }
};

class NAdam final : public UnfusedOptimizer<NAdamParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"mu_product", true}, {"exp_avg", true}, {"exp_avg_sq", true}};
  }
  bool penalises(const NAdamParams& h) const override { return !h.decoupled_weight_decay; }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const NAdamParams& h) override {
    const double step = next_step(state);
    at::Tensor& product = state["mu_product"];
    if (!product.defined()) product = at::ones({}, at::kFloat);
    at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
    at::Tensor& square = zeros_at_first(state, "exp_avg_sq", param);
    if (h.decoupled_weight_decay) param.mul_(1 - h.lr * h.weight_decay);
    const auto momentum = [&](double at) {
      return h.betas[0] * (1 - 0.5 * std::pow(0.96, at * h.momentum_decay));
    };
    const double now = momentum(step), next = momentum(step + 1);
    product.mul_(now);
    mean.lerp_(grad, 1 - h.betas[0]);
    square.mul_(h.betas[1]).addcmul_(grad, grad, 1 - h.betas[1]);
    const at::Tensor root = square.div(1 - std::pow(h.betas[1], step)).sqrt_().add_(h.eps);
    const double so_far = product.item<double>();
    param.addcdiv_(grad, root, -h.lr * (1 - now) / (1 - so_far));
    param.addcdiv_(mean, root, -h.lr * next / (1 - so_far * next));
  }
};
SEG_REGISTER(Optimizer, NAdam);

struct RAdamParams : BetaParamsOf<RAdamParams> {
  double eps = 1e-8;
  bool decoupled_weight_decay = false;
  bool maximize = false;

  static const List& list() {
    using P = RAdamParams;
    static const List names{{"lr", &P::lr},
                            {"betas", &P::betas},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"maximize", &P::maximize},
                            {"foreach", Value()},
                            {"capturable", Value(false)},
                            {"decoupled_weight_decay", &P::decoupled_weight_decay},
                            {"differentiable", Value(false)}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<RAdamParams> schema() {
    using P = RAdamParams;
    return unfused_schema<P>(
               "Adam whose first steps do without the mean square, which varies much.")
        .source("Liu et al. 2020, arXiv:1908.03265")
        .optional("betas", &P::betas, "decay of the two running means", in_range(0, 1))
        .optional("eps", &P::eps, "added to the root of the mean square", at_least(0))
        .optional("decoupled_weight_decay", &P::decoupled_weight_decay,
                  "shrink the weights themselves, as AdamW does");
  }
};

class RAdam final : public UnfusedOptimizer<RAdamParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"exp_avg", true}, {"exp_avg_sq", true}};
  }
  bool penalises(const RAdamParams& h) const override { return !h.decoupled_weight_decay; }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const RAdamParams& h) override {
    const double step = next_step(state);
    at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
    at::Tensor& square = zeros_at_first(state, "exp_avg_sq", param);
    if (h.decoupled_weight_decay) param.mul_(1 - h.lr * h.weight_decay);
    mean.lerp_(grad, 1 - h.betas[0]);
    square.mul_(h.betas[1]).addcmul_(grad, grad, 1 - h.betas[1]);
    const double decayed = std::pow(h.betas[1], step), rest = 1 - decayed;
    const at::Tensor unbiased = mean / (1 - std::pow(h.betas[0], step));
    // The length of the simple moving average that the running mean stands for; equation 8.
    const double longest = 2 / (1 - h.betas[1]) - 1;
    const double length = longest - 2 * step * decayed / rest;
    constexpr double kTractable = 5;
    if (length <= kTractable) {
      param.add_(unbiased, -h.lr);
      return;
    }
    const double rectified =
        std::sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
    const at::Tensor adaptive = std::sqrt(rest) / square.sqrt().add_(h.eps);
    param.add_(unbiased.mul(h.lr).mul_(adaptive).mul_(rectified), -1);
  }
};
SEG_REGISTER(Optimizer, RAdam);

struct LionParams : BetaParamsOf<LionParams> {
  bool maximize = false;
  LionParams() {
    lr = 1e-4;
    betas = {0.9, 0.99};
  }

  static const List& list() {
    using P = LionParams;
    static const List names{
        {"lr", &P::lr}, {"betas", &P::betas}, {"weight_decay", &P::weight_decay}};
    return names;
  }
  static Schema<LionParams> schema() {
    using P = LionParams;
    return Schema<P>("Steps by the signs of a running mean of gradients.")
        .source("Chen et al. 2023, arXiv:2302.06675")
        .optional("lr", &P::lr, "size of a step, a tenth or so of Adam's", at_least(0))
        .optional("betas", &P::betas, "share of the mean in a step, and its decay", in_range(0, 1))
        .optional("weight_decay", &P::weight_decay,
                  "share of the weights taken off each step, times lr", at_least(0))
        .accepted("use_triton", "a kernel of Python's");
  }
};

class Lion final : public UnfusedOptimizer<LionParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override { return {{"exp_avg", true}}; }
  bool penalises(const LionParams&) const override { return false; }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const LionParams& h) override {
    at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
    param.mul_(1 - h.lr * h.weight_decay);
    param.add_(mean.mul(h.betas[0]).add_(grad, 1 - h.betas[0]).sign_(), -h.lr);
    mean.mul_(h.betas[1]).add_(grad, 1 - h.betas[1]);
  }
};
SEG_REGISTER(Optimizer, Lion);

}  // namespace seg
