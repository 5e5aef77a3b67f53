/// The convolutions that heads are made of.
#pragma once
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// A ConvModule of a head's types, padded to keep the size of the map.
inline std::shared_ptr<ConvModule> head_conv(const DecodeHeadParams& p, int64_t in, int64_t out,
                                             int64_t kernel_size = 1, int64_t dilation = 1) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .padding = kernel_size / 2 * dilation,
                                                        .dilation = dilation,
                                                        .conv_cfg = p.conv_cfg,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg});
}

/// Averages a map to 1x1 and convolves it: children "0" (no weights) and "1".
inline std::shared_ptr<Sequential> head_pool(std::shared_ptr<ConvModule> conv) {
  auto out = std::make_shared<Sequential>();
  out->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) {
    return at::adaptive_avg_pool2d(x, {1, 1});
  }));
  out->push_back(std::move(conv));
  return out;
}

}  // namespace seg
