/// What convolutional backbones share: convolutions, the choice of maps, initialisation, freezing.
#pragma once
#include <torch/nn/module.h>

#include <optional>
#include <string>
#include <vector>

#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// A ConvModule padded so that only its stride changes the size of a map.
inline std::shared_ptr<ConvModule> padded_conv(int64_t in, int64_t out, int64_t kernel_size,
                                               int64_t stride = 1,
                                               const NormCfg& norm = norm_cfg_of("{type: BN}"),
                                               const ActCfg& act = relu_cfg(), int64_t groups = 1,
                                               const ConvCfg& conv = {}) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .stride = stride,
                                                        .padding = kernel_size / 2,
                                                        .groups = groups,
                                                        .conv_cfg = conv,
                                                        .norm_cfg = norm,
                                                        .act_cfg = act});
}

/// What `out_indices` asks for, in its order.
template <class T>
std::vector<T> chosen_by(const std::vector<int64_t>& out_indices, const std::vector<T>& all) {
  std::vector<T> out;
  for (const int64_t i : out_indices) out.push_back(all.at(static_cast<size_t>(i)));
  return out;
}

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
