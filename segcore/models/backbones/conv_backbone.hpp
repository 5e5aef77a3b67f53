/// Initialisation and freezing of convolutional backbones.
#pragma once
#include <torch/nn/module.h>

#include <optional>
#include <string>

#include "segcore/models/weights/init.hpp"

namespace seg {

/// The rules of a backbone: those of `pretrained` or `init_cfg`, else Kaiming's for convolutions
/// and 1 for norms.
inline InitCfg conv_backbone_init(const InitCfg& given,
                                  const std::optional<std::string>& pretrained) {
  if (pretrained) return init_cfg_of("{type: Pretrained, checkpoint: '" + *pretrained + "'}");
  if (given) return given;
  return init_cfg_of(
      "[{type: Kaiming, layer: Conv2d}, "
      "{type: Constant, val: 1, layer: [_BatchNorm, GroupNorm]}]");
}

/// Stops the training of a module; its norms keep their running statistics.
inline void freeze_module(torch::nn::Module& module) {
  module.eval();
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
}

}  // namespace seg
