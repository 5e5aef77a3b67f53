/// The interface of optimizers. Their saved state is the one of torch.optim, so that a run can go
/// on in either program.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// Parameters that share their options.
struct ParamGroup {
  std::vector<at::Tensor> params;
  std::vector<std::string> names;  ///< of the parameters, "backbone.layers.0.weight"
  /// As torch.optim keeps them: lr, weight_decay, betas, initial_lr, ...
  Value options = Value::dict();

  bool has(std::string_view key) const { return options.find(key) != nullptr; }
  double number(std::string_view key) const;
  void set(std::string_view key, double value);
  /// `momentum`, else the first of `betas`, else 0: what momentum schedules change.
  double momentum() const;
  void set_momentum(double value);
};

/// Changes parameters by their gradients.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Options that the group lacks get their defaults.
  /// \throws Error for a parameter that is in another group already.
  void add_group(ParamGroup group);
  std::vector<ParamGroup>& groups() { return groups_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }
  /// The options of a group that sets none, in the order of torch.optim.
  const Value& defaults() const { return defaults_; }

  /// One update of all parameters that have a gradient.
  /// \param found_inf  float [1], of a gradient scaler: where it is not zero, nothing changes. May
  ///                   be undefined.
  void step(const at::Tensor& found_inf = {});
  /// \param set_to_none  frees the gradients instead of filling them with zeros. Zeros where others
  ///                     hold views of them (the buckets of a reducer).
  void zero_grad(bool set_to_none = true);

  /// {state: {index: {name: tensor}}, param_groups: [{..., params: [index]}]}
  Value state_dict() const;
  /// \throws CheckpointError where the groups or shapes do not fit, or another kind of optimizer
  ///         wrote it.
  void load_state_dict(const Value& state);

 protected:
  /// What is kept of a parameter from step to step: "exp_avg" -> tensor.
  using State = std::map<std::string, at::Tensor>;
  /// Parameters with equal numbers, on one device and of one type: the kernels take them together,
  /// however many groups they come from.
  struct Bunch {
    std::vector<at::Tensor> params, grads;
    std::vector<State*> states;
    std::vector<double> numbers;
    at::Tensor found_inf;  ///< undefined where all gradients are known to be finite
  };

  explicit Optimizer(Value defaults) : defaults_(std::move(defaults)) {}
  /// The options that an update depends on, as `update` wants them.
  virtual std::vector<double> numbers(const ParamGroup& group) const = 0;
  virtual void update(Bunch& bunch) = 0;
  /// What is kept of a parameter after its first update; `always` or by some settings only.
  struct Kept {
    const char* name;
    bool always;
  };
  virtual std::vector<Kept> kept() const = 0;

 private:
  void check_kept(const Value& saved) const;

  Value defaults_;
  std::vector<ParamGroup> groups_;
  std::vector<std::vector<State>> states_;  ///< by group and parameter
};

template <>
struct Category<Optimizer> {
  static constexpr std::string_view name = "optimizer";
  using Signature = std::unique_ptr<Optimizer>();
};

}  // namespace seg
