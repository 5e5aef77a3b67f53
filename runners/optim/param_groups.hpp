/// How a model's parameters are divided into groups with learning rates and decays of their own.
#pragma once
#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runners/optim/optimizer.hpp"

namespace seg {

/// Options of the parameters whose name contains a key of `custom_keys`.
struct CustomKey {
  std::optional<double> lr_mult, decay_mult, lr, weight_decay, momentum, eps;
  std::optional<double> wd_mult;  ///< no option of MMEngine either; the published DNLNets have it
  static Schema<CustomKey> schema();
};

/// Options of all groupings together.
struct ParamwiseCfg {
  std::map<std::string, CustomKey> custom_keys;
  std::optional<double> bias_lr_mult, bias_decay_mult, norm_decay_mult, dwconv_decay_mult,
      flat_decay_mult, dcn_offset_lr_mult;
  bool bypass_duplicate = false;
  std::optional<bool> force_default_settings;
  std::optional<int64_t> num_layers;
  std::optional<double> decay_rate, layer_decay_rate;
  std::optional<std::string> decay_type;
  static Schema<ParamwiseCfg> schema();
  /// No option is set: all parameters form one group.
  bool empty() const;
};

/// The `constructor` of an optimizer wrapper: divides the parameters into groups.
class ParamGrouping {
 public:
  virtual ~ParamGrouping() = default;
  /// Adds all parameters of the model to the optimizer and logs their options.
  /// \param cfg  not empty.
  /// \throws OptionError of `paramwise_cfg`.
  virtual void add_groups(Optimizer& optimizer, torch::nn::Module& model,
                          const ParamwiseCfg& cfg) const = 0;
};

template <>
struct Category<ParamGrouping> {
  static constexpr std::string_view name = "optim_wrapper_constructor";
  using Signature = std::unique_ptr<ParamGrouping>();
};

/// `constructor` is written as a bare name.
template <>
struct Convert<Spec<ParamGrouping>> {
  static TypeDoc type();
  static std::optional<Spec<ParamGrouping>> from(const Config& c, const std::string& path,
                                                 Diagnostics& problems);
  static std::string show(const Spec<ParamGrouping>& spec) { return spec.type(); }
};

/// DefaultOptimWrapperConstructor.
Spec<ParamGrouping> default_param_grouping();

}  // namespace seg
