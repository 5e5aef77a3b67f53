/// Activation functions, built from an `act_cfg`. A new one is a class with
/// SEG_REGISTER(Activation, X).
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

class Activation : public Layer {
 public:
  /// Of a leaky ReLU, whose slope Kaiming's rule takes into account; empty for others.
  virtual std::optional<double> negative_slope() const { return std::nullopt; }
  /// Whether it is ReLU, which norms may do with their own work.
  virtual bool is_relu() const { return false; }
};

template <>
struct Category<Activation> {
  static constexpr std::string_view name = "activation";
  /// inplace: whether the input may be overwritten if the config does not set it.
  using Signature = std::shared_ptr<Activation>(bool inplace);
};

/// The option `act_cfg`; null for none.
using ActCfg = std::optional<Spec<Activation>>;

/// act_cfg_of("{type: GELU}"), for defaults.
ActCfg act_cfg_of(const std::string& yaml);
/// The default of most layers: ReLU.
inline ActCfg relu_cfg() { return act_cfg_of("{type: ReLU}"); }

}  // namespace seg
