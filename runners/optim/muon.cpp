#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {

struct MuonParams : HyperParamsOf<MuonParams> {
  double momentum = 0.95;
  bool nesterov = true;
  std::array<double, 3> ns_coefficients{3.4445, -4.775, 2.0315};
  double eps = 1e-7;
  int64_t ns_steps = 5;
  std::optional<std::string> adjust_lr_fn;
  bool maximize = false;  ///< it has no such option
  MuonParams() { weight_decay = 0.1; }

  static const List& list() {
    using P = MuonParams;
    static const List names{{"lr", &P::lr},
                            {"weight_decay", &P::weight_decay},
                            {"momentum", &P::momentum},
                            {"nesterov", &P::nesterov},
                            {"ns_coefficients", &P::ns_coefficients},
                            {"eps", &P::eps},
                            {"ns_steps", &P::ns_steps},
                            {"adjust_lr_fn", &P::adjust_lr_fn}};
    return names;
  }
  double* scheduled_momentum() override { return &momentum; }
  double* epsilon() override { return &eps; }
  static Schema<MuonParams> schema() {
    using P = MuonParams;
    return Schema<P>("Steps of orthogonal matrices; for models whose trained weights are matrices.")
        .source("Jordan et al. 2024, Muon; torch.optim.Muon")
        .optional("lr", &P::lr, "learning rate", at_least(0))
        .optional("weight_decay", &P::weight_decay,
                  "share of the weights taken off each step, times lr", at_least(0))
        .optional("momentum", &P::momentum, "decay of the running mean of gradients", at_least(0))
        .optional("nesterov", &P::nesterov, "mix the gradient into that mean once more")
        .optional("ns_coefficients", &P::ns_coefficients,
                  "of the polynomial that makes a matrix orthogonal")
        .optional("eps", &P::eps, "least norm that a matrix is divided by", at_least(0))
        .optional("ns_steps", &P::ns_steps, "applications of the polynomial", in_range(0, 99))
        .optional("adjust_lr_fn", &P::adjust_lr_fn,
                  "factor of the rate by the shape: original (the default) or match_rms_adamw",
                  one_of({"original", "match_rms_adamw"}));
  }
};

class Muon final : public UnfusedOptimizer<MuonParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override { return {{"momentum_buffer", true}}; }
  bool penalises(const MuonParams&) const override { return false; }
  void check_param(const at::Tensor& param, const std::string& name) const override {
    if (param.dim() == 2) return;
    // Thrown while a wrapper divides the parameters: it is the wrapper's option.
    throw OptionError("optimizer", text("Muon trains matrices alone, and ", name, " has the shape ",
                                        param.sizes(),
                                        ". Write AdamW, or freeze all that is no matrix and give "
                                        "paramwise_cfg, which leaves out what is frozen"));
  }

  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const MuonParams& h) override {
    at::Tensor& mean = zeros_at_first(state, "momentum_buffer", param);
    mean.lerp_(grad, 1 - h.momentum);
    const at::Tensor change = orthogonal(h.nesterov ? grad.lerp(mean, h.momentum) : mean, h);
    param.mul_(1 - h.lr * h.weight_decay);
    param.add_(change, -h.lr * rate_factor(param, h));
  }

  static double rate_factor(const at::Tensor& param, const MuonParams& h) {
    const auto rows = static_cast<double>(param.size(0)),
               columns = static_cast<double>(param.size(1));
    if (h.adjust_lr_fn == "match_rms_adamw") return 0.2 * std::sqrt(std::max(rows, columns));
    return std::sqrt(std::max(1.0, rows / columns));
  }

  /// Newton-Schulz iterations towards the orthogonal factor of the matrix, in bfloat16.
  static at::Tensor orthogonal(const at::Tensor& matrix, const MuonParams& h) {
    const auto [a, b, c] = h.ns_coefficients;
    const bool tall = matrix.size(0) > matrix.size(1);
    at::Tensor x = matrix.to(at::kBFloat16);
    if (tall) x = x.t();
    x = x / x.norm().clamp_min(h.eps);
    for (int64_t i = 0; i < h.ns_steps; ++i) {
      const at::Tensor gram = x.mm(x.t());
      x = at::addmm(x, at::addmm(gram, gram, gram, b, c), x, a);
    }
    return tall ? x.t() : x;
  }
};
SEG_REGISTER(Optimizer, Muon);

}  // namespace seg
