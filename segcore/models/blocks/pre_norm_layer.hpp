/// The transformer layer of CLIP, with mmcv's parameter names.
#pragma once
#include "segcore/models/blocks/transformer.hpp"

namespace seg {

struct PreNormLayerOptions {
  int64_t embed_dims = 0, num_heads = 1, feedforward_channels = 0;
  bool qkv_bias = true;
  ActCfg act_cfg = act_cfg_of("{type: GELU}");
};

/// mmcv's BaseTransformerLayer in the order norm, attention, norm, feed-forward: children
/// `attentions.0`, `ffns.0`, `norms.0`, `norms.1`. Batch first.
class PreNormLayer final : public BaseModule {
 public:
  explicit PreNormLayer(const PreNormLayerOptions& options);
  /// \param tokens  [N, L, C]
  /// \param mask  as PackedAttention's.
  torch::Tensor forward(const torch::Tensor& tokens, const torch::Tensor& mask = {});
  /// Each token attends to a memory and to itself, with the weights of self-attention (SAN, section
  /// 3.2 of arXiv:2302.12242).
  /// \param memory  [N, S, C]
  /// \param bias  added to the scores of the memory, [N, heads, L, S].
  torch::Tensor attend(const torch::Tensor& tokens, const torch::Tensor& memory,
                       const torch::Tensor& bias);

 private:
  torch::Tensor feed_forward(const torch::Tensor& x);

  std::shared_ptr<MultiheadAttention> attention_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<ListOf<Norm>> norms_;
};

}  // namespace seg
