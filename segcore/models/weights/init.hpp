/// Weight initialisation: the rules that `init_cfg` names, and the functions behind them.
#pragma once
#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

/// One rule of an `init_cfg`: which layers it is for, and what it does to them.
class Initializer {
 public:
  virtual ~Initializer() = default;
  /// Applies the rule to the layers below (and including) `module` that it names, then its
  /// overrides to the children that they name.
  /// \throws OptionError where an override names no child.
  virtual void apply(torch::nn::Module& module) const = 0;
  /// Sets weight and bias of every layer below `module`.
  virtual void apply_to_all(torch::nn::Module& module) const = 0;
};

template <>
struct Category<Initializer> {
  static constexpr std::string_view name = "initializer";
  using Signature = std::shared_ptr<Initializer>();
};

/// The option `init_cfg`: null, one rule or a list of them.
using InitCfg = std::optional<OneOrMany<Spec<Initializer>>>;

/// An `init_cfg` from text, for defaults: init_cfg_of("{type: Normal, std: 0.01}").
InitCfg init_cfg_of(const std::string& yaml);

/// A rule that loads a checkpoint.
Spec<Initializer> pretrained_from(const std::string& checkpoint);
/// What the older option `pretrained` and `init_cfg` ask for together.
/// \throws OptionError where both are given.
InitCfg with_pretrained(const InitCfg& init_cfg, const std::optional<std::string>& pretrained);

/// The names that `layer` may call a module by: its Python class and that class's bases
/// ("BatchNorm2d", "_BatchNorm").
std::vector<std::string> layer_names(const torch::nn::Module& module);

/// Each sets the parameters `weight` and `bias` of one layer where it has them.
void constant_init(torch::nn::Module& layer, double value, double bias = 0);
void normal_init(torch::nn::Module& layer, double mean, double std, double bias = 0);
void uniform_init(torch::nn::Module& layer, double a, double b, double bias = 0);
void xavier_init(torch::nn::Module& layer, double gain = 1, double bias = 0,
                 bool uniform_distribution = false);
/// Normal, cut off at the values a and b.
void trunc_normal_init(torch::nn::Module& layer, double mean, double std, double a = -2,
                       double b = 2, double bias = 0);
struct KaimingOptions {
  double a = 0;  ///< negative slope of a leaky_relu
  bool fan_out = true;
  bool leaky_relu = false;  ///< nonlinearity; else relu
  double bias = 0;
  bool uniform_distribution = false;
};
void kaiming_init(torch::nn::Module& layer, const KaimingOptions& options = {});
/// Fills a tensor in place with a normal distribution cut off at a and b (by the inverse of its
/// cumulative distribution).
void trunc_normal_(torch::Tensor tensor, double mean = 0, double std = 1, double a = -2,
                   double b = 2);

/// Calls `visit` for a module and all below it, parents first.
void for_each_module(torch::nn::Module& root, const std::function<void(torch::nn::Module&)>& visit);
}  // namespace seg
