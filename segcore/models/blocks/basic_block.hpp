/// The residual blocks of networks with branches of several resolutions (DDRNet, PIDNet).
#pragma once
#include <functional>

#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct BasicBlockOptions {
  int64_t in_channels = 0, channels = 0;
  int64_t stride = 1;
  std::shared_ptr<Layer> downsample;  ///< the shortcut where the shape changes; else null
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg_out;  ///< after the sum
};

/// Two 3x3 convolutions: children `conv1`, `conv2`, `downsample`.
class BasicBlock final : public Layer {
 public:
  static constexpr int64_t kExpansion = 1;
  explicit BasicBlock(const BasicBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> conv1_, conv2_;
  std::shared_ptr<Layer> downsample_;  ///< may be null
  std::shared_ptr<Activation> act_;    ///< may be null
};

/// Convolutions of 1x1, 3x3 and 1x1 to twice the width: children `conv1` to `conv3`, `downsample`.
class Bottleneck final : public Layer {
 public:
  static constexpr int64_t kExpansion = 2;
  explicit Bottleneck(const BasicBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> conv1_, conv2_, conv3_;
  std::shared_ptr<Activation> act_;    ///< may be null
  std::shared_ptr<Layer> downsample_;  ///< may be null
};

struct BlockRowOptions {
  bool bottleneck = false;
  int64_t in_channels = 0, channels = 0;
  int64_t num_blocks = 1;
  int64_t stride = 1;  ///< of the first block
  /// Makes the shortcut of the first block where it changes the shape.
  std::function<std::shared_ptr<Layer>(int64_t in, int64_t out, int64_t stride)> shortcut;
  /// Norms of all blocks but the first, which has batch norms, as in MMSegmentation.
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  /// After the blocks between the first and the last. After a first basic block is a ReLU, after a
  /// first bottleneck and after the last of several blocks nothing.
  ActCfg act_cfg = relu_cfg();
};

/// Blocks in a row; only the first strides.
std::shared_ptr<Sequential> block_row(const BlockRowOptions& options);

}  // namespace seg
