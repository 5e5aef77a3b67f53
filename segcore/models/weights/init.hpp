/// Weight initialisation: the rules that `init_cfg` names, and the functions behind them.
#pragma once
#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

/// One rule of an `init_cfg`: the layers it is for, and how it fills them.
class Initializer {
 public:
  virtual ~Initializer() = default;
  /// Fills the layers that the rule names, `module` and those below it, then the children that its
  /// overrides name.
  /// \throws OptionError if an override names no child.
  virtual void apply(torch::nn::Module& module) const = 0;
  /// Fills every layer, `module` and those below it, whatever the rule names.
  virtual void apply_to_all(torch::nn::Module& module) const = 0;
  /// Whether it is for the whole module (`layer: all`), after the rules of all that is below.
  virtual bool is_last_word() const { return false; }
  /// Whether it takes the weights from a file.
  virtual bool reads_file() const { return false; }
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
/// The `init_cfg`, or the rule that the older option `pretrained` stands for.
/// \throws OptionError if both are given.
InitCfg with_pretrained(const InitCfg& init_cfg, const std::optional<std::string>& pretrained);

/// The names under which the option `layer` selects a module: its Python class and the bases of
/// that ("BatchNorm2d", "_BatchNorm").
std::vector<std::string> layer_names(const torch::nn::Module& module);

/// Each of these fills the parameters `weight` and `bias` of one layer, if it has them.
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
/// Uniform with the variance 1 / fan in, as Caffe2's XavierFill.
void caffe2_xavier_init(torch::nn::Module& layer, double bias = 0);
/// Rows or columns at right angles, the fewer of them, of the length `gain`.
void orthogonal_init(torch::nn::Module& layer, double gain, double bias = 0);
/// Xavier's rule for all parameters below a module with two or more dimensions; others stay.
void xavier_matrices_init(torch::nn::Module& module, bool uniform_distribution);
/// Fills a tensor in place with a normal distribution cut off at a and b (by the inverse of its
/// cumulative distribution).
void trunc_normal_(torch::Tensor tensor, double mean = 0, double std = 1, double a = -2,
                   double b = 2);

}  // namespace seg
