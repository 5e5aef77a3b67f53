// Two Adafactors: that of Hugging Face's transformers, which MMEngine calls Adafactor, and that of
// torch.optim, which it calls TorchAdafactor.
#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {
namespace {

constexpr const char* kAdafactorPaper = "Adafactor, Shazeer and Stern 2018, arXiv:1804.04235";

at::Tensor adafactor_rms(const at::Tensor& t) {
  return t.norm() / std::sqrt(static_cast<double>(t.numel()));
}

std::vector<int64_t> shape_without(const at::Tensor& param, int64_t dim) {
  std::vector<int64_t> out = param.sizes().vec();
  out.erase(out.end() + dim);
  return out;
}

std::vector<int64_t> shape_with_one(const at::Tensor& param, int64_t dim) {
  std::vector<int64_t> out = param.sizes().vec();
  *(out.end() + dim) = 1;
  return out;
}

double least_difference(at::ScalarType type) {
  return type == at::kDouble ? std::numeric_limits<double>::epsilon()
                             : std::numeric_limits<float>::epsilon();
}

}  // namespace

struct AdafactorParams : HyperParamsOf<AdafactorParams> {
  std::optional<double> given_lr;
  std::array<double, 2> eps{1e-30, 1e-3};
  double clip_threshold = 1;
  double decay_rate = -0.8;
  std::optional<double> beta1;
  bool scale_parameter = true;
  bool relative_step = true;
  bool warmup_init = false;
  bool maximize = false;  ///< it has no such option

  static const List& list() {
    using P = AdafactorParams;
    static const List names{{"lr", &P::lr},
                            {"eps", &P::eps},
                            {"clip_threshold", &P::clip_threshold},
                            {"decay_rate", &P::decay_rate},
                            {"beta1", &P::beta1},
                            {"weight_decay", &P::weight_decay},
                            {"scale_parameter", &P::scale_parameter},
                            {"relative_step", &P::relative_step},
                            {"warmup_init", &P::warmup_init}};
    return names;
  }
  static Schema<AdafactorParams> schema() {
    using P = AdafactorParams;
    return Schema<P>("Mean squares of rows and columns alone; the version of transformers.")
        .source(kAdafactorPaper)
        .optional("lr", &P::given_lr,
                  "learning rate; null with relative_step, whose steps schedules and multipliers "
                  "then scale",
                  at_least(0))
        .optional("eps", &P::eps,
                  "added to the squared gradient, and the least size of a weight for "
                  "scale_parameter")
        .optional("clip_threshold", &P::clip_threshold, "largest root mean square of a step",
                  above(0))
        .optional("decay_rate", &P::decay_rate,
                  "power of the step with which new gradients lose weight")
        .optional("beta1", &P::beta1, "decay of a running mean of the steps; null: none",
                  in_range(0, 1))
        .optional("weight_decay", &P::weight_decay,
                  "share of the weights taken off each step, times the rate", at_least(0))
        .optional("scale_parameter", &P::scale_parameter,
                  "steps in proportion to the size of the weights")
        .optional("relative_step", &P::relative_step,
                  "the rate is at most 0.01 and falls with the root of the step")
        .optional("warmup_init", &P::warmup_init, "that rate begins at 1e-6 and rises")
        .validate([](const P& p, Problems& problems) {
          if (p.given_lr && p.relative_step) {
            problems.error("lr", "needs relative_step: false, which then follows this rate alone");
          } else if (!p.given_lr && !p.relative_step) {
            problems.error("lr", "must be given where relative_step is false");
          }
          if (p.warmup_init && !p.relative_step) {
            problems.error("warmup_init", "needs relative_step: true");
          }
        });
  }
};

class Adafactor final : public UnfusedOptimizer<AdafactorParams> {
 public:
  explicit Adafactor(AdafactorParams p) : UnfusedOptimizer(with_rate(p)) {}

 private:
  /// Without a rate, `lr` is the factor of the relative step.
  static const AdafactorParams& with_rate(AdafactorParams& p) {
    p.lr = p.given_lr.value_or(1);
    return p;
  }
  std::vector<Kept> kept() const override {
    return {{"step", true},
            {"exp_avg", false},
            {"exp_avg_sq", false},
            {"exp_avg_sq_row", false},
            {"exp_avg_sq_col", false},
            {"RMS", true}};
  }
  std::vector<int64_t> kept_shape(const std::string& name, const at::Tensor& param) const override {
    if (name == "exp_avg_sq_row") return shape_without(param, -1);
    if (name == "exp_avg_sq_col") return shape_without(param, -2);
    return name == "RMS" ? std::vector<int64_t>{} : param.sizes().vec();
  }
  bool penalises(const AdafactorParams&) const override { return false; }

  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const AdafactorParams& h) override {
    const double step = next_step(state);
    state["RMS"] = adafactor_rms(param);
    double relative = h.lr;
    if (h.relative_step) {
      relative *= std::min(h.warmup_init ? 1e-6 * step : 1e-2, 1 / std::sqrt(step));
    }
    // A tensor, because asking for the size of the weights would wait for the device.
    const at::Tensor rate = h.scale_parameter ? state["RMS"].clamp_min(h.eps[1]) * relative
                                              : at::scalar_tensor(relative, param.options());
    at::Tensor change = scaled_gradient(param, grad, state, 1 - std::pow(step, h.decay_rate), h);
    change.div_((adafactor_rms(change) / h.clip_threshold).clamp_min(1)).mul_(rate);
    if (h.beta1) {
      at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
      change = mean.mul_(*h.beta1).add_(change, 1 - *h.beta1);
    }
    if (h.weight_decay != 0) param.sub_(param * (rate * h.weight_decay));
    param.sub_(change);
  }

  /// The gradient over the root of its mean square, in which the past has the weight `decay`.
  static at::Tensor scaled_gradient(const at::Tensor& param, const at::Tensor& grad, State& state,
                                    double decay, const AdafactorParams& h) {
    const at::Tensor square = grad.square().add_(h.eps[0]);
    const auto average = [&](const char* name, const at::Tensor& now) -> at::Tensor& {
      at::Tensor& mean = state[name];
      if (!mean.defined()) mean = at::zeros_like(now);
      return mean.mul_(decay).add_(now, 1 - decay);
    };
    if (param.dim() < 2) return average("exp_avg_sq", square).rsqrt().mul_(grad);
    const at::Tensor& rows = average("exp_avg_sq_row", square.mean(-1));
    const at::Tensor& columns = average("exp_avg_sq_col", square.mean(-2));
    const at::Tensor row_factor = (rows / rows.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
    return row_factor.mul(columns.unsqueeze(-2).rsqrt()).mul_(grad);
  }
};
SEG_REGISTER(Optimizer, Adafactor);

struct TorchAdafactorParams : HyperParamsOf<TorchAdafactorParams> {
  double beta2_decay = -0.8;
  std::array<std::optional<double>, 2> eps{std::nullopt, 1e-3};
  double d = 1;
  bool maximize = false;
  TorchAdafactorParams() { lr = 1e-2; }

  static const List& list() {
    using P = TorchAdafactorParams;
    static const List names{{"lr", &P::lr},
                            {"beta2_decay", &P::beta2_decay},
                            {"eps", &P::eps},
                            {"d", &P::d},
                            {"weight_decay", &P::weight_decay},
                            {"foreach", Value()},
                            {"maximize", &P::maximize}};
    return names;
  }
  static Schema<TorchAdafactorParams> schema() {
    using P = TorchAdafactorParams;
    return Schema<P>("Mean squares of rows and columns alone; the version of torch.optim.")
        .source(kAdafactorPaper)
        .optional("lr", &P::lr, "largest relative step", at_least(0))
        .optional("beta2_decay", &P::beta2_decay,
                  "power of the step with which new gradients lose weight")
        .optional("eps", &P::eps,
                  "least root mean square, null for the least difference from 1 of the "
                  "parameter's type; and the least size of a weight")
        .optional("d", &P::d, "largest root mean square of a step", at_least(1))
        .optional("weight_decay", &P::weight_decay,
                  "share of the weights taken off each step, times lr", at_least(0))
        .optional("maximize", &P::maximize, "ascend the gradient")
        .accepted("foreach", "parameters are updated one by one")
        .validate([](const P& p, Problems& problems) {
          if (p.beta2_decay > 0) problems.error("beta2_decay", "must be at most 0");
          if (p.eps[0].value_or(0) < 0 || p.eps[1].value_or(-1) < 0) {
            problems.error("eps",
                           "expected [a number of at least 0 or null, a number of at least 0]");
          }
        });
  }
};

class TorchAdafactor final : public UnfusedOptimizer<TorchAdafactorParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"row_var", false}, {"col_var", false}, {"variance", false}};
  }
  std::vector<int64_t> kept_shape(const std::string& name, const at::Tensor& param) const override {
    if (name == "row_var") return shape_with_one(param, -1);
    return name == "col_var" ? shape_with_one(param, -2) : param.sizes().vec();
  }
  bool penalises(const TorchAdafactorParams&) const override { return false; }

  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const TorchAdafactorParams& h) override {
    const double step = next_step(state);
    const double least = h.eps[0].value_or(least_difference(param.scalar_type()));
    const at::Tensor size = adafactor_rms(param).clamp_min(*h.eps[1]);
    if (h.weight_decay != 0) param.mul_(1 - h.lr * h.weight_decay);
    at::Tensor change = mean_square(grad, state, std::pow(step, h.beta2_decay), least);
    change = change.clamp_min(least * least).rsqrt_().mul_(grad);
    const at::Tensor rate = size * std::min(h.lr, 1 / std::sqrt(step));
    param.sub_(change.mul_(rate / (adafactor_rms(change) / h.d).clamp_min(1)));
  }

  /// The running mean of the squared gradient, in which the present one has the weight `share`.
  static at::Tensor mean_square(const at::Tensor& grad, State& state, double share, double least) {
    const auto average = [&](const char* name, const at::Tensor& now) -> at::Tensor& {
      at::Tensor& mean = state[name];
      if (!mean.defined()) mean = at::zeros_like(now);
      return mean.lerp_(now, share);
    };
    const at::Tensor square = grad.square();
    if (grad.dim() < 2) return average("variance", square);
    const at::Tensor& rows = average("row_var", square.mean(-1, /*keepdim=*/true));
    const at::Tensor& columns = average("col_var", square.mean(-2, /*keepdim=*/true));
    return rows.matmul(columns).div_(rows.mean(-2, /*keepdim=*/true).clamp_min(least));
  }
};
SEG_REGISTER(Optimizer, TorchAdafactor);

}  // namespace seg
