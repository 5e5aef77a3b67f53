#include <ATen/Functions.h>

#include <cmath>

#include "runners/optim/unfused_optimizer.hpp"

namespace seg {

struct SparseAdamParams : BetaParamsOf<SparseAdamParams> {
  double eps = 1e-8;
  bool maximize = false;

  static const List& list() {
    using P = SparseAdamParams;
    static const List names{
        {"lr", &P::lr}, {"betas", &P::betas}, {"eps", &P::eps}, {"maximize", &P::maximize}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<SparseAdamParams> schema() {
    using P = SparseAdamParams;
    return Schema<P>("Adam that leaves weights, and their means, alone where the gradient is 0.")
        .source("PyTorch, torch.optim.SparseAdam")
        .optional("lr", &P::lr, "learning rate", above(0))
        .optional("betas", &P::betas, "decay of the two running means", in_range(0, 1))
        .optional("eps", &P::eps, "added to the root of the mean square", above(0))
        .optional("maximize", &P::maximize, "ascend the gradient");
  }
};

/// A gradient of PyTorch's sparse layout has values at some places alone. Models here give dense
/// ones, whose zeros stand for the places without a value.
class SparseAdam final : public UnfusedOptimizer<SparseAdamParams> {
 public:
  using UnfusedOptimizer::UnfusedOptimizer;

 private:
  std::vector<Kept> kept() const override {
    return {{"step", true}, {"exp_avg", true}, {"exp_avg_sq", true}};
  }
  void step_one(const at::Tensor& param, const at::Tensor& grad, State& state,
                const SparseAdamParams& h) override {
    const double step = next_step(state);
    at::Tensor& mean = zeros_at_first(state, "exp_avg", param);
    at::Tensor& square = zeros_at_first(state, "exp_avg_sq", param);
    const at::Tensor given = grad.ne(0);
    mean.copy_(at::where(given, mean.lerp(grad, 1 - h.betas[0]), mean));
    square.copy_(at::where(given, square.lerp(grad.square(), 1 - h.betas[1]), square));
    const double rate =
        h.lr * std::sqrt(1 - std::pow(h.betas[1], step)) / (1 - std::pow(h.betas[0], step));
    param.sub_(mean.div(square.sqrt().add_(h.eps)).mul_(rate).masked_fill_(~given, 0));
  }
};
SEG_REGISTER(Optimizer, SparseAdam);

}  // namespace seg
