/// The blocks of MobileNets.
#pragma once
#include "segcore/models/blocks/se_layer.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct InvertedResidualOptions {
  int64_t in_channels = 0, out_channels = 0;
  int64_t stride = 1;
  double expand_ratio = 1;
  int64_t dilation = 1;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = act_cfg_of("{type: ReLU6}");
  bool with_cp = false;
};

/// Widens, convolves each channel alone, narrows; the child `conv` holds the layers.
///
/// MobileNetV2, Sandler et al. 2018, arXiv:1801.04381.
class InvertedResidual final : public Layer {
 public:
  explicit InvertedResidual(const InvertedResidualOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  bool with_cp_, shortcut_;
  std::shared_ptr<Sequential> conv_;
};

struct InvertedResidualV3Options {
  int64_t in_channels = 0, out_channels = 0, mid_channels = 0;
  int64_t kernel_size = 3;
  bool shortcut = false;
  /// Of the depthwise convolution.
  Size2 stride = 1, padding = 0, dilation = 1;
  ConvCfg depthwise_conv_cfg;
  std::optional<SEOptions> se_cfg;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  bool with_cp = false;
};

/// The same with squeeze and excitation; children `expand_conv` (where the width changes),
/// `depthwise_conv`, `se`, `linear_conv`.
///
/// MobileNetV3, Howard et al. 2019, arXiv:1905.02244.
class InvertedResidualV3 final : public Layer {
 public:
  explicit InvertedResidualV3(const InvertedResidualV3Options& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  bool with_cp_, shortcut_;
  std::shared_ptr<ConvModule> expand_conv_;  ///< may be null
  std::shared_ptr<ConvModule> depthwise_conv_;
  std::shared_ptr<SELayer> se_;  ///< may be null
  std::shared_ptr<ConvModule> linear_conv_;
};

}  // namespace seg
