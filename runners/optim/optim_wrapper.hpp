/// From a loss to updated parameters: backward, accumulation, clipping, update; in full or mixed
/// precision.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "runners/optim/optimizer.hpp"
#include "runners/optim/param_groups.hpp"
#include "runners/optim/step_memory.hpp"
#include "segcore/precision.hpp"

namespace seg {

/// How gradients are bounded before an update.
struct ClipGrad {
  std::string type = "norm";
  std::optional<double> max_norm;
  double norm_type = 2.0;
  std::optional<double> clip_value;
  bool error_if_nonfinite = false;
  static Schema<ClipGrad> schema();
};

/// The option `cuda_graph`: false or "auto".
using CudaGraph = std::variant<bool, std::string>;

struct OptimWrapperParams {
  Spec<Optimizer> optimizer;
  Spec<ParamGrouping> constructor = default_param_grouping();
  std::optional<ParamwiseCfg> paramwise_cfg;
  int64_t accumulative_counts = 1;
  std::optional<ClipGrad> clip_grad;
  CudaGraph cuda_graph = false;
  std::string memory = "fast";
  std::optional<MemoryLimit> memory_limit;
};

/// A step of training is
///   {
///     auto precision = wrapper.precision();
///     auto memory = wrapper.recomputations(images);
///     losses = model.loss(...);
///   }
///   wrapper.scale_loss(total_loss(losses)).backward();
///   wrapper.step();
class OptimWrapper {
 public:
  using Params = OptimWrapperParams;
  static Schema<Params> schema();
  /// \param model  on its device already.
  OptimWrapper(const Params& params, torch::nn::Module& model);
  virtual ~OptimWrapper() = default;

  /// Autocast for the forward pass.
  virtual std::unique_ptr<Autocast> precision() const;
  /// What the backward pass recomputes, for the forward pass; null: nothing.
  std::unique_ptr<FollowsPlan> recomputations(const at::Tensor& images);
  /// What the backward pass begins from: the loss divided by the number of accumulated steps and,
  /// in mixed precision, times the loss scale.
  virtual at::Tensor scale_loss(const at::Tensor& loss) const;
  /// After the backward pass: every `accumulative_counts` steps, and at the last one, updates
  /// the parameters and zeroes the gradients.
  /// \return whether the parameters were updated.
  bool step();
  /// The norm of all gradients before clipping, a scalar on the model's device, of the last `step`;
  /// undefined if none was computed.
  const at::Tensor& grad_norm() const { return grad_norm_; }
  /// Sets where a run starts and ends, in steps of its loop: the last, incomplete accumulation is
  /// weighted by its own length.
  /// \param accumulated  the result of `accumulated()` after `done` steps, or None. Where it does
  ///                     not fit `done`, gradients are lost, with a warning.
  /// \throws CheckpointError where a gradient belongs to no parameter.
  void set_progress(int64_t done, int64_t total, const Value& accumulated = {});
  /// The gradients since the last update, for a run that resumes here:
  /// {steps, loss_weight, gradients: {name of the parameter: tensor}}. A loss was multiplied by
  /// `loss_weight` before its gradients were taken. None right after an update.
  Value accumulated() const;
  /// Whether the next `step` updates the parameters, so that gradients must be averaged over the
  /// processes before.
  bool will_update() const;
  /// What `scale_loss` divides the loss of the next step by: the accumulated steps that its
  /// gradient is averaged with, itself included.
  int64_t accumulation_length() const;
  /// Whether steps are to be recorded where that works (`cuda_graph`).
  bool records_steps() const {
    return params_.cuda_graph != CudaGraph(false) && params_.memory == "fast";
  }
  /// Whether gradients are zeroed in place, because others hold views of them.
  void keep_gradients(bool keep) { keep_gradients_ = keep; }

  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }
  /// Groups that schedules change: the optimizer's and, if there are several, one more with
  /// the options that no multiplier touched ("base_lr" in the log).
  std::vector<ParamGroup*> scheduled_groups();
  /// ("base_lr", ...) if there are several groups, then ("lr", that of the first group).
  std::vector<std::pair<std::string, double>> learning_rates() const;

  /// As mmengine saves it: the optimizer's, `base_param_settings`, with AMP `loss_scaler`.
  virtual Value state_dict() const;
  /// \throws CheckpointError
  virtual void load_state_dict(const Value& state);

 protected:
  virtual void update();
  /// What mixed precision multiplies a loss by.
  virtual double loss_scale() const { return 1; }
  void clip_gradients();
  c10::Device device() const { return device_; }

  Params params_;

 private:
  double loss_weight() const { return loss_scale() / static_cast<double>(accumulation_length()); }
  void take_gradients(const Value& accumulated);

  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<StepMemory> memory_;  ///< null: all is kept
  std::optional<ParamGroup> base_;
  at::Tensor grad_norm_;
  c10::Device device_;
  int64_t done_ = 0, total_ = -1, remainder_ = -1;
  bool keep_gradients_ = false;
};

template <>
struct Category<OptimWrapper> {
  static constexpr std::string_view name = "optim_wrapper";
  using Signature = std::unique_ptr<OptimWrapper>(torch::nn::Module& model);
};

}  // namespace seg
