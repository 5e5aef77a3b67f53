/// The pooling pyramid of PSPNet.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct PPMOptions {
  std::vector<int64_t> pool_scales{1, 2, 3, 6};
  int64_t in_channels = 0, channels = 0;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
  bool align_corners = false;
};

/// Pools a map to a few sizes, with a 1x1 convolution on each: children `<i>.1`.
///
/// PSPNet, Zhao et al. 2017, arXiv:1612.01105, section 3.2.
class PPM final : public BaseModule {
 public:
  explicit PPM(const PPMOptions& options);
  /// \return one map [N, channels, H, W] for each scale, resized to the size of x.
  std::vector<torch::Tensor> forward(const torch::Tensor& x);

 private:
  bool align_corners_;
  std::vector<std::shared_ptr<Sequential>> branches_;
};

}  // namespace seg
