#include "segcore/models/blocks/se_layer.hpp"

#include <algorithm>

#include "segcore/torch.hpp"

namespace seg {

int64_t make_divisible(double value, int64_t divisor) {
  const auto rounded =
      static_cast<int64_t>(value + static_cast<double>(divisor) / 2) / divisor * divisor;
  int64_t out = std::max(divisor, rounded);
  if (static_cast<double>(out) < 0.9 * value) out += divisor;
  return out;
}

SELayer::SELayer(const SEOptions& o) {
  const int64_t squeezed = make_divisible(static_cast<double>(o.channels / o.ratio), 8);
  conv1_ = register_module(
      "conv1", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = o.channels,
                                                              .out_channels = squeezed,
                                                              .conv_cfg = o.conv_cfg,
                                                              .act_cfg = o.act_cfg[0]}));
  conv2_ = register_module(
      "conv2", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = squeezed,
                                                              .out_channels = o.channels,
                                                              .conv_cfg = o.conv_cfg,
                                                              .act_cfg = o.act_cfg[1]}));
}

torch::Tensor SELayer::forward(const torch::Tensor& x) {
  return x * conv2_->forward(conv1_->forward(at::adaptive_avg_pool2d(x, {1, 1})));
}

}  // namespace seg
