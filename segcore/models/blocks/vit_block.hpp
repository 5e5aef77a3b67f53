/// The encoder block of plain vision transformers.
#pragma once
#include "segcore/models/blocks/transformer.hpp"

namespace seg {

struct ViTBlockOptions {
  int64_t embed_dims = 0, num_heads = 1, feedforward_channels = 0;
  double drop_rate = 0, attn_drop_rate = 0, drop_path_rate = 0;
  int64_t num_fcs = 2;
  bool qkv_bias = true;
  ActCfg act_cfg = act_cfg_of("{type: GELU}");
  NormCfg norm_cfg = norm_cfg_of("{type: LN}");
  bool with_cp = false;
};

/// Options of the blocks, from those of the backbone or head that consists of them.
template <class Params>
ViTBlockOptions vit_block_options(const Params& p) {
  return {.embed_dims = p.embed_dims,
          .num_heads = p.num_heads,
          .feedforward_channels = p.mlp_ratio * p.embed_dims,
          .drop_rate = p.drop_rate,
          .attn_drop_rate = p.attn_drop_rate,
          .drop_path_rate = p.drop_path_rate,
          .num_fcs = p.num_fcs,
          .qkv_bias = p.qkv_bias,
          .act_cfg = p.act_cfg,
          .norm_cfg = p.norm_cfg};
}

/// Attention and a feed-forward block, each after a norm: children `ln1`, `attn`, `ln2`, `ffn`.
class ViTBlock final : public BaseModule {
 public:
  explicit ViTBlock(const ViTBlockOptions& options);
  /// tokens [N, L, C]
  torch::Tensor forward(const torch::Tensor& tokens);
  std::vector<std::string> python_names() const override { return {"TransformerEncoderLayer"}; }

 private:
  bool with_cp_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<MultiheadAttention> attn_;
  std::shared_ptr<FFN> ffn_;
};

/// `count` blocks whose stochastic depth rises from 0 to `options.drop_path_rate`.
std::shared_ptr<ListOf<ViTBlock>> vit_blocks(int64_t count, ViTBlockOptions options);

}  // namespace seg
