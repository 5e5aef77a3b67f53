#include "segcore/models/blocks/inverted_residual.hpp"

#include <cmath>

#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

InvertedResidual::InvertedResidual(const InvertedResidualOptions& o)
    : with_cp_(o.with_cp), shortcut_(o.stride == 1 && o.in_channels == o.out_channels) {
  // Half to even, as Python rounds.
  const auto hidden =
      static_cast<int64_t>(std::nearbyint(static_cast<double>(o.in_channels) * o.expand_ratio));
  conv_ = std::make_shared<Sequential>();
  ConvModuleOptions conv{.conv_cfg = o.conv_cfg, .norm_cfg = o.norm_cfg, .act_cfg = o.act_cfg};
  if (o.expand_ratio != 1) {
    conv.in_channels = o.in_channels;
    conv.out_channels = hidden;
    conv_->push_back(std::make_shared<ConvModule>(conv));
  }
  ConvModuleOptions depthwise = conv;
  depthwise.in_channels = depthwise.out_channels = depthwise.groups = hidden;
  depthwise.kernel_size = 3;
  depthwise.stride = o.stride;
  depthwise.padding = depthwise.dilation = o.dilation;
  conv_->push_back(std::make_shared<ConvModule>(depthwise));
  conv.in_channels = hidden;
  conv.out_channels = o.out_channels;
  conv.act_cfg = std::nullopt;
  conv_->push_back(std::make_shared<ConvModule>(conv));
  register_module("conv", conv_);
}

torch::Tensor InvertedResidual::forward(const torch::Tensor& x) {
  const auto body = [this](const torch::Tensor& in) {
    const auto out = conv_->forward(in);
    return shortcut_ ? in + out : out;
  };
  return run_block(with_cp_, body, x);
}

InvertedResidualV3::InvertedResidualV3(const InvertedResidualV3Options& o)
    : with_cp_(o.with_cp), shortcut_(o.shortcut) {
  ConvModuleOptions conv{.in_channels = o.in_channels,
                         .out_channels = o.mid_channels,
                         .conv_cfg = o.conv_cfg,
                         .norm_cfg = o.norm_cfg,
                         .act_cfg = o.act_cfg};
  if (o.in_channels != o.mid_channels) {
    expand_conv_ = register_module("expand_conv", std::make_shared<ConvModule>(conv));
  }
  ConvModuleOptions depthwise = conv;
  depthwise.in_channels = depthwise.groups = o.mid_channels;
  depthwise.kernel_size = o.kernel_size;
  depthwise.stride = o.stride;
  depthwise.padding = o.padding;
  depthwise.dilation = o.dilation;
  depthwise.conv_cfg = o.depthwise_conv_cfg;
  depthwise_conv_ = register_module("depthwise_conv", std::make_shared<ConvModule>(depthwise));
  if (o.se_cfg) se_ = register_module("se", std::make_shared<SELayer>(*o.se_cfg));
  conv.in_channels = o.mid_channels;
  conv.out_channels = o.out_channels;
  conv.act_cfg = std::nullopt;
  linear_conv_ = register_module("linear_conv", std::make_shared<ConvModule>(conv));
}

torch::Tensor InvertedResidualV3::forward(const torch::Tensor& x) {
  const auto body = [this](const torch::Tensor& in) {
    auto out = expand_conv_ ? expand_conv_->forward(in) : in;
    out = depthwise_conv_->forward(out);
    if (se_) out = se_->forward(out);
    out = linear_conv_->forward(out);
    return shortcut_ ? in + out : out;
  };
  return run_block(with_cp_, body, x);
}

}  // namespace seg
