/// The attention refinement module of BiSeNet.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// A 3x3 convolution whose maps are weighed by their means: children `conv_layer`,
/// `atten_conv_layer`.
///
/// BiSeNet, Yu et al. 2018, arXiv:1808.00897, section 3.2.
class AttentionRefinementModule final : public Layer {
 public:
  AttentionRefinementModule(int64_t in_channels, int64_t out_channels, const ConvCfg& conv_cfg = {},
                            const NormCfg& norm_cfg = norm_cfg_of("{type: BN}"),
                            const ActCfg& act_cfg = relu_cfg());
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> conv_layer_;
  std::shared_ptr<Sequential> atten_conv_layer_;
};

}  // namespace seg
