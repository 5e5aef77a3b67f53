#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/tensor.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "registry/log.hpp"
#include "runners/hooks/hook.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

struct EMAHookParams : HookParams {
  std::string ema_type = "ExponentialMovingAverage";
  bool strict_load = false;
  int64_t begin_iter = 0;
  int64_t begin_epoch = 0;
  double momentum = 0.0002;
  int64_t gamma = 100;
  int64_t interval = 1;
  bool update_buffers = false;
};

/// Keeps a running average of the weights, with which validations are made and which checkpoints
/// hold as `state_dict`; the weights of training are then under `ema_state_dict`.
class EMAHook final : public Hook {
 public:
  using Params = EMAHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Averages the weights over time, for validation and checkpoints.")
        .source("MMEngine 0.10, EMAHook; averages: Izmailov et al. 2018, arXiv:1803.05407")
        .include(HookParams::schema())
        .optional(
            "ema_type", &Params::ema_type, "how the average is formed",
            one_of({"ExponentialMovingAverage", "StochasticWeightAverage", "MomentumAnnealingEMA"}))
        .optional("strict_load", &Params::strict_load,
                  "an average in a checkpoint must have all weights")
        .optional("begin_iter", &Params::begin_iter, "averages from this step on", at_least(0))
        .optional("begin_epoch", &Params::begin_epoch, "averages from this epoch on", at_least(0))
        .optional("momentum", &Params::momentum, "share of the new weights in each update",
                  in_range(0, 1))
        .optional("gamma", &Params::gamma,
                  "MomentumAnnealingEMA: the share is at least gamma / (gamma + steps)",
                  at_least(1))
        .optional("interval", &Params::interval, "steps between updates", at_least(1))
        .optional("update_buffers", &Params::update_buffers,
                  "also averages running statistics, which are copied otherwise")
        .accepted("device", "the average is kept on the device of the model")
        .validate([](const Params& p, Problems& problems) {
          if (p.begin_iter != 0 && p.begin_epoch != 0) {
            problems.error("begin_epoch", "give begin_iter or begin_epoch, not both");
          }
          if (p.momentum <= 0 || p.momentum >= 1) {
            problems.error("momentum", "must be above 0 and below 1");
          }
        });
  }
  explicit EMAHook(const Params& params) : Hook(params, Priority::kNormal), params_(params) {}

  void attach(const HookTargets& targets) override { model_ = targets.model; }
  bool averages_weights() const override { return true; }

  void before_train(const RunInfo&, const Progress&) override {
    if (averages_.empty()) copy_weights();
  }

  void after_train_iter(const RunInfo&, const Progress& progress, const StepResult&,
                        RunControl&) override {
    const torch::NoGradGuard no_grad;
    const bool started = params_.begin_epoch > 0 ? epoch_of_step(progress) >= params_.begin_epoch
                                                 : progress.iter >= params_.begin_iter;
    // Many tensors in one call: a GPU would spend more time on starting each than on its numbers.
    std::vector<torch::Tensor> copied, copied_from, averaged, averaged_from;
    for (const Weight& weight : averages_) {
      const bool averages = weight.is_parameter || params_.update_buffers;
      if (!started || !averages || steps_ == 0) {
        // Integer counters under update_buffers stay as the first step found them.
        copied.push_back(weight.tensor);
        copied_from.push_back(weight.own);
      } else if (steps_ % params_.interval == 0 && weight.tensor.is_floating_point()) {
        averaged.push_back(weight.tensor);
        averaged_from.push_back(weight.own);
      }
    }
    if (!copied.empty()) at::_foreach_copy_(copied, copied_from);
    if (!averaged.empty()) update(averaged, averaged_from);
    if (started) ++steps_;
  }

  void before_val(const RunInfo&, const Progress&) override { swap(); }
  void after_val(const RunInfo&, const Progress&, const EvalResult&, RunControl&) override {
    swap();
  }

  void save_state(Value& checkpoint) const override {
    if (averages_.empty()) return;
    Value averaged = Value::dict();
    averaged.set("steps", at::tensor(steps_, at::kLong));
    Value weights = checkpoint.at("state_dict");
    // In a validation the weights of training are here, and the model holds the average.
    for (const Weight& average : averages_) {
      const Value trained = weights.at(average.name);
      if (swapped_) {
        averaged.set("module." + average.name, average.tensor.detach().cpu());
      } else {
        averaged.set("module." + average.name, trained);
        weights.set(average.name, average.tensor.detach().cpu());
      }
    }
    checkpoint.set("ema_state_dict", averaged);
  }

  void load_state(Value& checkpoint) override {
    copy_weights();
    Value weights = checkpoint.at("state_dict");
    const Value* averaged = checkpoint.find("ema_state_dict");
    if (!averaged) {
      log::warn("the checkpoint has no ema_state_dict: the average begins with its weights");
      for (Weight& average : averages_) take(average, weights.find(average.name));
      return;
    }
    if (const Value* steps = averaged->find("steps")) {
      steps_ = steps->is_tensor() ? steps->as_tensor().item<int64_t>() : steps->as_int();
    }
    for (Weight& average : averages_) {
      const Value* trained = averaged->find("module." + average.name);
      take(average, weights.find(average.name));
      if (trained) {
        weights.set(average.name, *trained);
      } else if (params_.strict_load) {
        throw WeightsMismatch("ema_state_dict has no 'module." + average.name + "'");
      }
    }
  }

 private:
  struct Weight {
    std::string name;
    torch::Tensor tensor;  ///< the average
    torch::Tensor own;     ///< the model's
    bool is_parameter = false;
  };

  static int64_t epoch_of_step(const Progress& progress) {
    return progress.epoch_length > 0 ? (progress.iter - 1) / progress.epoch_length + 1 : 1;
  }
  void copy_weights() {
    averages_.clear();
    const auto add = [&](const auto& item, bool is_parameter) {
      averages_.push_back({item.key(), item.value().detach().clone(), item.value(), is_parameter});
    };
    for (const auto& item : model_->named_parameters()) add(item, true);
    for (const auto& item : model_->named_buffers()) add(item, false);
  }
  static void take(Weight& average, const Value* found) {
    if (!found || !found->is_tensor() || found->as_tensor().sizes() != average.tensor.sizes()) {
      return;  // loading the weights themselves reports what does not fit
    }
    average.tensor.copy_(found->as_tensor());
  }
  void update(const std::vector<torch::Tensor>& averages,
              const std::vector<torch::Tensor>& sources) const {
    if (params_.ema_type == "StochasticWeightAverage") {
      at::_foreach_add_(averages, at::_foreach_sub(sources, averages),
                        1.0 / static_cast<double>(steps_ / params_.interval + 1));
      return;
    }
    double share = params_.momentum;
    if (params_.ema_type == "MomentumAnnealingEMA") {
      const auto gamma = static_cast<double>(params_.gamma);
      share = std::max(share, gamma / (gamma + static_cast<double>(steps_)));
    }
    at::_foreach_lerp_(averages, sources, share);
  }
  void swap() {
    if (averages_.empty()) return;
    const torch::NoGradGuard no_grad;
    for (Weight& weight : averages_) {
      const torch::Tensor kept = weight.tensor.clone();
      weight.tensor.copy_(weight.own);
      weight.own.copy_(kept);
    }
    swapped_ = !swapped_;
  }

  Params params_;
  Segmentor* model_ = nullptr;
  std::vector<Weight> averages_;
  int64_t steps_ = 0;
  bool swapped_ = false;
};
SEG_REGISTER(Hook, EMAHook);

}  // namespace seg
