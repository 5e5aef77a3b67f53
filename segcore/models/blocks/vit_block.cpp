#include "segcore/models/blocks/vit_block.hpp"

#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

ViTBlock::ViTBlock(const ViTBlockOptions& o) : with_cp_(o.with_cp) {
  norm1_ = register_norm(*this, *o.norm_cfg, o.embed_dims, "1");
  attn_ = register_module(
      "attn", std::make_shared<MultiheadAttention>(AttentionOptions{.embed_dims = o.embed_dims,
                                                                    .num_heads = o.num_heads,
                                                                    .attn_drop = o.attn_drop_rate,
                                                                    .proj_drop = o.drop_rate,
                                                                    .bias = o.qkv_bias}));
  norm2_ = register_norm(*this, *o.norm_cfg, o.embed_dims, "2");
  FFNOptions ffn{.embed_dims = o.embed_dims,
                 .feedforward_channels = o.feedforward_channels,
                 .num_fcs = o.num_fcs,
                 .act_cfg = o.act_cfg,
                 .ffn_drop = o.drop_rate};
  if (o.drop_path_rate > 0) {
    ffn.dropout_layer =
        Spec<DropLayer>::of(text("{type: DropPath, drop_prob: ", o.drop_path_rate, "}"));
  }
  ffn_ = register_module("ffn", std::make_shared<FFN>(ffn));
}

torch::Tensor ViTBlock::forward(const torch::Tensor& tokens) {
  const auto block = [this](const torch::Tensor& x) {
    const auto y = attn_->forward(norm1_->forward(x), x);
    return ffn_->forward(norm2_->forward(y), y);
  };
  return run_block(with_cp_, block, tokens);
}

std::shared_ptr<ListOf<ViTBlock>> vit_blocks(int64_t count, ViTBlockOptions options) {
  auto blocks = std::make_shared<ListOf<ViTBlock>>();
  for (const double rate : drop_path_rates(options.drop_path_rate, count)) {
    options.drop_path_rate = rate;
    blocks->push_back(std::make_shared<ViTBlock>(options));
  }
  return blocks;
}

}  // namespace seg
