#include "segcore/models/backbones/attention_refinement.hpp"

#include "segcore/models/nn/pool.hpp"
#include "segcore/torch.hpp"

namespace seg {

AttentionRefinementModule::AttentionRefinementModule(int64_t in_channels, int64_t out_channels,
                                                     const ConvCfg& conv_cfg,
                                                     const NormCfg& norm_cfg,
                                                     const ActCfg& act_cfg) {
  conv_layer_ = register_module(
      "conv_layer", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in_channels,
                                                                   .out_channels = out_channels,
                                                                   .kernel_size = 3,
                                                                   .padding = 1,
                                                                   .conv_cfg = conv_cfg,
                                                                   .norm_cfg = norm_cfg,
                                                                   .act_cfg = act_cfg}));
  atten_conv_layer_ = std::make_shared<Sequential>();
  atten_conv_layer_->push_back(global_average());
  atten_conv_layer_->push_back(
      std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = out_channels,
                                                     .out_channels = out_channels,
                                                     .bias = false,
                                                     .conv_cfg = conv_cfg,
                                                     .norm_cfg = norm_cfg,
                                                     .act_cfg = std::nullopt}));
  register_module("atten_conv_layer", atten_conv_layer_);
}

torch::Tensor AttentionRefinementModule::forward(const torch::Tensor& x) {
  const auto out = conv_layer_->forward(x);
  return out * atten_conv_layer_->forward(out).sigmoid();
}

}  // namespace seg
