/// The interface of optimizers. Their saved state is that of torch.optim, so that a run can be
/// resumed in either program.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "registry/registry.hpp"
#include "runners/optim/hyper_params.hpp"
#include "runners/optim/kept_mean.hpp"

namespace seg {

/// Parameters that share their hyper-parameters.
struct ParamGroup {
  std::vector<at::Tensor> params;
  std::vector<std::string> names;  ///< of the parameters, "backbone.layers.0.weight"
  std::unique_ptr<HyperParams> hyper;

  // Set by groupings.
  std::optional<double> lr_mult, decay_mult, lr_scale;
  std::optional<std::string> group_name;
  bool lists_names = false;  ///< `names` are saved as "param_names"
  // Set by schedules.
  std::optional<double> initial_lr, initial_momentum, max_lr, min_lr;
  /// The first of `betas` under the name that momentum schedules have for it.
  std::optional<double> beta_momentum;
  /// Saved options of other programs, kept for them.
  Value other = Value::dict();

  /// `momentum`, else the first of `betas`, else 0: what momentum schedules change.
  double momentum() const;
  void set_momentum(double value);
  void set_epsilon(double value);

  /// A number that a schedule keeps with the group, such as "initial_lr".
  std::optional<double> note(const std::string& name) const;
  void set_note(const std::string& name, double value);

  /// {name: value} of all but the parameters, as torch.optim keeps them.
  Value options() const;
  /// Takes saved options; those of no name that is known here are kept in `other`.
  void read_options(const Value& saved);
};

/// Changes parameters by their gradients.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// A group without parameters whose hyper-parameters are the defaults.
  ParamGroup new_group() const;
  /// \param group  without hyper-parameters: it gets the defaults.
  /// \throws Error for a parameter that is in another group already.
  void add_group(ParamGroup group);
  std::vector<ParamGroup>& groups() { return groups_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }
  /// Those of a group that sets none.
  const HyperParams& defaults() const { return *defaults_; }

  /// One update of all parameters that have a gradient.
  /// \param found_inf  float [1], of a gradient scaler: if it is not zero, nothing changes. May
  ///                   be undefined.
  void step(const at::Tensor& found_inf = {});
  /// \param set_to_none  frees the gradients instead of filling them with zeros. Zeros where others
  ///                     hold views of them (the buckets of a reducer).
  void zero_grad(bool set_to_none = true);

  /// {state: {index: {name: tensor}}, param_groups: [{..., params: [index]}]}; with a `state_dtype`
  /// other than float32 also {state_dtype: name, updates: count}. A mean in 8 bits has two entries,
  /// "exp_avg_codes" and "exp_avg_scales" in place of "exp_avg".
  Value state_dict() const;
  /// Means of another type are converted to this optimizer's.
  /// \throws CheckpointError where groups or shapes do not fit, or another type of optimizer wrote
  ///         the state.
  void load_state_dict(const Value& state);

 protected:
  /// State of a parameter: "exp_avg" -> tensor.
  using State = std::map<std::string, at::Tensor>;
  /// Parameters with equal hyper-parameters, on one device and of one type, from any number of
  /// groups: the kernels take them together.
  struct ParameterBatch {
    std::vector<at::Tensor> params, grads;
    std::vector<State*> states;
    std::vector<uint64_t> keys;          ///< what each one's means are rounded by in this update
    const HyperParams* hyper = nullptr;  ///< of the optimizer's own type
    at::Tensor found_inf;                ///< undefined where all gradients are known to be finite

    /// Whether an infinite gradient was found; this waits for the device.
    bool skips() const;
  };

  explicit Optimizer(std::unique_ptr<HyperParams> defaults,
                     StateDtype state_dtype = StateDtype::kFloat32)
      : defaults_(std::move(defaults)), state_dtype_(state_dtype) {}
  virtual void update(ParameterBatch& batch) = 0;
  /// Moves those whose means are compact out of a batch.
  ParameterBatch take_compact(ParameterBatch& batch) const;
  /// A compact mean of a parameter's state: zeros where it has none yet.
  KeptMean kept_mean(State& state, const std::string& name, const at::Tensor& param) const;
  /// An entry of the state of an updated parameter, present always or with some options only.
  struct Kept {
    const char* name;
    bool always;
    bool squares = false;  ///< a mean of squares
  };
  virtual std::vector<Kept> kept() const = 0;
  /// The shape of an entry, unless it is "step", which is a scalar.
  virtual std::vector<int64_t> kept_shape(const std::string& /*name*/,
                                          const at::Tensor& param) const {
    return param.sizes().vec();
  }
  /// \throws OptionError for a parameter that it cannot train.
  virtual void check_param(const at::Tensor& /*param*/, const std::string& /*name*/) const {}

 private:
  void check_kept(const Value& saved) const;
  std::vector<std::vector<State>> read_states(const Value& saved) const;
  State read_state(const Value& saved, const at::Tensor& param, const std::string& name) const;
  void read_mean(const Value& saved, const std::string& name, const at::Tensor& param,
                 const std::string& param_name, State& to) const;
  bool keeps_squares(const std::string& name) const;

  std::unique_ptr<HyperParams> defaults_;
  std::vector<ParamGroup> groups_;
  std::vector<std::vector<State>> states_;  ///< by group and parameter
  StateDtype state_dtype_;
  int64_t updates_ = 0;  ///< that compact means were rounded in
};

template <>
struct Category<Optimizer> {
  static constexpr std::string_view name = "optimizer";
  using Signature = std::unique_ptr<Optimizer>();
};

}  // namespace seg
