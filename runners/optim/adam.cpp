// Adam and AdamW, by the fused kernels of LibTorch, which take hundreds of tensors at once.
#include <ATen/Functions.h>

#include "runners/optim/optimizer.hpp"

namespace seg {

struct AdamParams : BetaParamsOf<AdamParams> {
  double eps = 1e-8;
  bool amsgrad = false;
  bool maximize = false;
  bool decoupled_weight_decay = false;
  std::string state_dtype = "float32";

  static const List& list() {
    using P = AdamParams;
    static const List names{{"lr", &P::lr},
                            {"betas", &P::betas},
                            {"eps", &P::eps},
                            {"weight_decay", &P::weight_decay},
                            {"amsgrad", &P::amsgrad},
                            {"maximize", &P::maximize},
                            {"foreach", Value()},
                            {"capturable", Value(false)},
                            {"differentiable", Value(false)},
                            {"fused", Value()},
                            {"decoupled_weight_decay", &P::decoupled_weight_decay}};
    return names;
  }
  double* epsilon() override { return &eps; }
  static Schema<AdamParams> schema() {
    return Schema<AdamParams>("Steps scaled by running means of gradients and of their squares.")
        .source("Adam, Kingma and Ba 2015, arXiv:1412.6980")
        .optional("lr", &AdamParams::lr, "learning rate", at_least(0))
        .optional("betas", &AdamParams::betas, "decay of the two running means", in_range(0, 1))
        .optional("eps", &AdamParams::eps, "added to the root of the mean square", at_least(0))
        .optional("weight_decay", &AdamParams::weight_decay, "strength of the L2 penalty",
                  at_least(0))
        .optional("amsgrad", &AdamParams::amsgrad, "use the largest mean square so far")
        .optional("maximize", &AdamParams::maximize, "ascend the gradient")
        .optional("decoupled_weight_decay", &AdamParams::decoupled_weight_decay,
                  "shrink the weights themselves, as AdamW does")
        .optional("state_dtype", &AdamParams::state_dtype, kStateDtypeMeaning,
                  one_of({"float32", "bfloat16", "int8"}))
        .accepted("foreach", "parameters are always updated together")
        .accepted("fused", "the fused kernels are always used")
        .accepted("capturable", "of CUDA graphs in Python")
        .accepted("differentiable", "updates are never differentiated");
  }
};

struct AdamWParams : AdamParams {
  AdamWParams() {
    weight_decay = 1e-2;
    decoupled_weight_decay = true;
  }
  static Schema<AdamWParams> schema() {
    return Schema<AdamWParams>("Adam with decay of the weights apart from the gradient.")
        .source(
            "Decoupled weight decay regularization, Loshchilov and Hutter 2019, "
            "arXiv:1711.05101")
        .optional("lr", &AdamWParams::lr, "learning rate", at_least(0))
        .optional("betas", &AdamWParams::betas, "decay of the two running means", in_range(0, 1))
        .optional("eps", &AdamWParams::eps, "added to the root of the mean square", at_least(0))
        .optional("weight_decay", &AdamWParams::weight_decay,
                  "share of the weights taken off each step, times lr", at_least(0))
        .optional("amsgrad", &AdamWParams::amsgrad, "use the largest mean square so far")
        .optional("maximize", &AdamWParams::maximize, "ascend the gradient")
        .optional("state_dtype", &AdamWParams::state_dtype, kStateDtypeMeaning,
                  one_of({"float32", "bfloat16", "int8"}))
        .accepted("foreach", "parameters are always updated together")
        .accepted("fused", "the fused kernels are always used")
        .accepted("capturable", "of CUDA graphs in Python")
        .accepted("differentiable", "updates are never differentiated");
  }
};

class Adam : public Optimizer {
 public:
  using Params = AdamParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit Adam(const AdamParams& p) : Optimizer(p.copy(), state_dtype_of(p.state_dtype)) {}

 protected:
  std::vector<Kept> kept() const override {
    return {{"step", true},
            {"exp_avg", true},
            {"exp_avg_sq", true, true},
            {"max_exp_avg_sq", false, true}};
  }

  void update(ParameterBatch& b) override {
    ParameterBatch compact = take_compact(b);
    update_compact(compact);
    if (b.params.empty()) return;
    const auto& h = static_cast<const AdamParams&>(*b.hyper);
    std::vector<at::Tensor> means, squares, largest, steps;
    for (size_t i = 0; i < b.params.size(); ++i) {
      State& state = *b.states[i];
      if (state.empty()) {
        state["step"] = at::zeros({}, b.params[i].options().dtype(at::kFloat));
        state["exp_avg"] = at::zeros_like(b.params[i]);
        state["exp_avg_sq"] = at::zeros_like(b.params[i]);
      }
      steps.push_back(state.at("step"));
      means.push_back(state.at("exp_avg"));
      squares.push_back(state.at("exp_avg_sq"));
      if (h.amsgrad) {
        at::Tensor& most = state["max_exp_avg_sq"];
        if (!most.defined()) most = at::zeros_like(b.params[i]);
        largest.push_back(most);
      }
    }
    at::_foreach_add_(steps, 1);
    const std::optional<at::Tensor> found_inf =
        b.found_inf.defined() ? std::optional(b.found_inf.to(b.params[0].device())) : std::nullopt;
    if (h.decoupled_weight_decay) {
      at::_fused_adamw_(b.params, b.grads, means, squares, largest, steps, h.lr, h.betas[0],
                        h.betas[1], h.weight_decay, h.eps, h.amsgrad, h.maximize, {}, found_inf);
    } else {
      at::_fused_adam_(b.params, b.grads, means, squares, largest, steps, h.lr, h.betas[0],
                       h.betas[1], h.weight_decay, h.eps, h.amsgrad, h.maximize, {}, found_inf);
    }
    // A step that the kernel skipped does not count.
    if (found_inf) {
      at::_foreach_sub_(steps, std::vector<at::Tensor>(steps.size(), found_inf->reshape({})));
    }
  }

 private:
  void update_compact(ParameterBatch& b) {
    if (b.params.empty() || b.skips()) return;
    const auto& h = static_cast<const AdamParams&>(*b.hyper);
    AdamStep step{.lr = h.lr,
                  .beta1 = h.betas[0],
                  .beta2 = h.betas[1],
                  .eps = h.eps,
                  .weight_decay = h.weight_decay,
                  .decoupled_weight_decay = h.decoupled_weight_decay,
                  .maximize = h.maximize};
    for (size_t i = 0; i < b.params.size(); ++i) {
      State& state = *b.states[i];
      at::Tensor& count = state["step"];
      // On the CPU: reading it waits for no device.
      count = count.defined() ? count.cpu() : at::zeros({}, at::kFloat);
      step.step = count.add_(1).item<double>();
      const KeptMean mean = kept_mean(state, "exp_avg", b.params[i]);
      const KeptMean square = kept_mean(state, "exp_avg_sq", b.params[i]);
      const KeptMean largest =
          h.amsgrad ? kept_mean(state, "max_exp_avg_sq", b.params[i]) : KeptMean();
      adam_step_(b.params[i], b.grads[i], mean, square, h.amsgrad ? &largest : nullptr, step,
                 b.keys[i]);
    }
  }
};
SEG_REGISTER(Optimizer, Adam);

class AdamW final : public Adam {
 public:
  using Params = AdamWParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit AdamW(const AdamWParams& p) : Adam(p) {}
};
SEG_REGISTER(Optimizer, AdamW);

}  // namespace seg
