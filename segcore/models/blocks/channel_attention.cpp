#include "segcore/models/blocks/channel_attention.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/torch.hpp"

namespace seg {
namespace {

std::shared_ptr<Conv2d> pointwise_conv(int64_t in, int64_t out, bool bias) {
  return std::make_shared<Conv2d>(
      ConvOptions{.in_channels = in, .out_channels = out, .bias = bias});
}

}  // namespace

SqueezeExcitation::SqueezeExcitation(int64_t channels, int64_t squeezed)
    : fc1_(register_module("fc1", pointwise_conv(channels, squeezed, /*bias=*/true))),
      fc2_(register_module("fc2", pointwise_conv(squeezed, channels, /*bias=*/true))) {}

torch::Tensor SqueezeExcitation::forward(const torch::Tensor& x) {
  const auto means = x.mean({2, 3}, /*keepdim=*/true);
  return x * fc2_->forward(fc1_->forward(means).relu_()).sigmoid();
}

EfficientChannelAttention::EfficientChannelAttention(int64_t channels) {
  const auto neighbours = static_cast<int64_t>((std::log2(static_cast<double>(channels)) + 1) / 2);
  const int64_t kernel = std::max<int64_t>(neighbours / 2 * 2 + 1, 3);
  conv_ =
      register_module("conv", build_conv(Spec<Conv2d>::of("{type: Conv1d}"), {.in_channels = 1,
                                                                              .out_channels = 1,
                                                                              .kernel_size = kernel,
                                                                              .padding = kernel / 2,
                                                                              .bias = false}));
}

torch::Tensor EfficientChannelAttention::forward(const torch::Tensor& x) {
  const auto means = x.mean({2, 3}).unsqueeze(1);
  return x * conv_->forward(means).sigmoid().view({x.size(0), -1, 1, 1});
}

SpatialAttention::SpatialAttention()
    : conv_(register_module("conv", std::make_shared<ConvModule>(
                                        ConvModuleOptions{.in_channels = 2,
                                                          .out_channels = 1,
                                                          .kernel_size = 7,
                                                          .padding = 3,
                                                          .norm_cfg = norm_cfg_of("{type: BN}"),
                                                          .act_cfg = {}}))) {}

torch::Tensor SpatialAttention::forward(const torch::Tensor& x) {
  const auto pooled = torch::cat({x.mean(1, /*keepdim=*/true), x.amax(1, /*keepdim=*/true)}, 1);
  return x * conv_->forward(pooled).sigmoid();
}

class ConvBlockAttention::Channel final : public Layer {
 public:
  explicit Channel(int64_t channels) {
    const int64_t squeezed = std::max<int64_t>((channels + 8) / 16, 1);
    fc1_ = register_module("fc1", pointwise_conv(channels, squeezed, /*bias=*/false));
    fc2_ = register_module("fc2", pointwise_conv(squeezed, channels, /*bias=*/false));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto of = [this](const torch::Tensor& pooled) {
      return fc2_->forward(fc1_->forward(pooled).relu_());
    };
    return x *
           (of(x.mean({2, 3}, /*keepdim=*/true)) + of(x.amax({2, 3}, /*keepdim=*/true))).sigmoid();
  }

 private:
  std::shared_ptr<Conv2d> fc1_, fc2_;
};

ConvBlockAttention::ConvBlockAttention(int64_t channels)
    : channel_(register_module("channel", std::make_shared<Channel>(channels))),
      spatial_(register_module("spatial", std::make_shared<SpatialAttention>())) {}

torch::Tensor ConvBlockAttention::forward(const torch::Tensor& x) {
  return spatial_->forward(channel_->forward(x));
}

}  // namespace seg
