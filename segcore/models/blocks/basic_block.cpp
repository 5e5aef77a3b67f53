#include "segcore/models/blocks/basic_block.hpp"

#include "segcore/torch.hpp"

namespace seg {
namespace {

std::shared_ptr<ConvModule> block_conv(const BasicBlockOptions& o, int64_t in, int64_t out,
                                       int64_t kernel_size, int64_t stride, const ActCfg& act) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .stride = stride,
                                                        .padding = kernel_size / 2,
                                                        .norm_cfg = o.norm_cfg,
                                                        .act_cfg = act});
}

/// The sum of a block's result and its shortcut, activated where there is an activation.
torch::Tensor end_block(const torch::Tensor& out, const torch::Tensor& x, Layer* downsample,
                        Activation* act) {
  const auto sum = out + (downsample ? downsample->forward(x) : x);
  return act ? act->forward(sum) : sum;
}

}  // namespace

BasicBlock::BasicBlock(const BasicBlockOptions& o) : downsample_(o.downsample) {
  conv1_ =
      register_module("conv1", block_conv(o, o.in_channels, o.channels, 3, o.stride, relu_cfg()));
  conv2_ = register_module("conv2", block_conv(o, o.channels, o.channels, 3, 1, {}));
  if (downsample_) register_module("downsample", downsample_);
  if (o.act_cfg_out) act_ = register_module("act", o.act_cfg_out->build(false));
}

torch::Tensor BasicBlock::forward(const torch::Tensor& x) {
  return end_block(conv2_->forward(conv1_->forward(x)), x, downsample_.get(), act_.get());
}

Bottleneck::Bottleneck(const BasicBlockOptions& o) : downsample_(o.downsample) {
  const int64_t out = o.channels * kExpansion;
  conv1_ = register_module("conv1", block_conv(o, o.in_channels, o.channels, 1, 1, relu_cfg()));
  conv2_ = register_module("conv2", block_conv(o, o.channels, o.channels, 3, o.stride, relu_cfg()));
  conv3_ = register_module("conv3", block_conv(o, o.channels, out, 1, 1, {}));
  if (o.act_cfg_out) act_ = register_module("act", o.act_cfg_out->build(false));
  if (downsample_) register_module("downsample", downsample_);
}

torch::Tensor Bottleneck::forward(const torch::Tensor& x) {
  const auto out = conv3_->forward(conv2_->forward(conv1_->forward(x)));
  return end_block(out, x, downsample_.get(), act_.get());
}

std::shared_ptr<Sequential> block_row(const BlockRowOptions& o) {
  const int64_t out = o.channels * (o.bottleneck ? Bottleneck::kExpansion : BasicBlock::kExpansion);
  auto row = std::make_shared<Sequential>();
  for (int64_t i = 0; i < o.num_blocks; ++i) {
    BasicBlockOptions block{.in_channels = out, .channels = o.channels};
    if (i == 0) {
      block.in_channels = o.in_channels;
      block.stride = o.stride;
      if (o.stride != 1 || o.in_channels != out) {
        block.downsample = o.shortcut(o.in_channels, out, o.stride);
      }
      if (!o.bottleneck) block.act_cfg_out = relu_cfg();
    } else {
      block.norm_cfg = o.norm_cfg;
      if (i + 1 < o.num_blocks) block.act_cfg_out = o.act_cfg;
    }
    if (o.bottleneck) {
      row->push_back(std::make_shared<Bottleneck>(block));
    } else {
      row->push_back(std::make_shared<BasicBlock>(block));
    }
  }
  return row;
}

}  // namespace seg
