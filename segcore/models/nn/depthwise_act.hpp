/// The option `dw_act_cfg` of depthwise separable convolutions.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// The activation after depthwise convolutions; null: none; "default": that after the 1x1 ones.
using DepthwiseActCfg = std::optional<std::variant<Spec<Activation>, std::string>>;

/// What DepthwiseSeparableOptions takes for it.
std::optional<ActCfg> depthwise_act(const DepthwiseActCfg& cfg);
/// Reports a word that is not "default".
void check_depthwise_act(const DepthwiseActCfg& cfg, Problems& problems);

}  // namespace seg
