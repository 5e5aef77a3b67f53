/// Attention of channels to each other at the end of a block, under timm's tensor names.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// Scales each channel by a factor that two 1x1 convolutions compute from the means of all
/// channels: children `fc1`, `fc2`.
///
/// Hu et al. 2017, arXiv:1709.01507.
class SqueezeExcitation final : public Layer {
 public:
  SqueezeExcitation(int64_t channels, int64_t squeezed);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<Conv2d> fc1_, fc2_;
};

/// The same from the means of the neighbouring channels: child `conv`, whose kernel grows with the
/// number of channels.
///
/// Wang et al. 2019, arXiv:1910.03151.
class EfficientChannelAttention final : public Layer {
 public:
  explicit EfficientChannelAttention(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<Conv2d> conv_;
};

/// Scales each pixel by a factor that a convolution computes from the means and the maxima of the
/// channels around it: child `conv`.
///
/// The second half of CBAM, Woo et al. 2018, arXiv:1807.06521.
class SpatialAttention final : public Layer {
 public:
  SpatialAttention();
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> conv_;
};

/// Scales each channel by a factor from the means and maxima of all channels (child `channel`),
/// then each pixel (child `spatial`).
///
/// CBAM, Woo et al. 2018, arXiv:1807.06521.
class ConvBlockAttention final : public Layer {
 public:
  explicit ConvBlockAttention(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  class Channel;
  std::shared_ptr<Layer> channel_, spatial_;
};

}  // namespace seg
