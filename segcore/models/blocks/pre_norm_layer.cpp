#include "segcore/models/blocks/pre_norm_layer.hpp"

#include <limits>

#include "segcore/torch.hpp"

namespace seg {

PreNormLayer::PreNormLayer(const PreNormLayerOptions& o) {
  auto attentions = register_module("attentions", std::make_shared<ListOf<MultiheadAttention>>());
  attention_ = attentions->push_back(std::make_shared<MultiheadAttention>(
      AttentionOptions{.embed_dims = o.embed_dims, .num_heads = o.num_heads, .bias = o.qkv_bias}));
  auto ffns = register_module("ffns", std::make_shared<ListOf<FFN>>());
  ffn_ = ffns->push_back(
      std::make_shared<FFN>(FFNOptions{.embed_dims = o.embed_dims,
                                       .feedforward_channels = o.feedforward_channels,
                                       .act_cfg = o.act_cfg}));
  norms_ = register_module("norms", std::make_shared<ListOf<Norm>>());
  const auto norm = Spec<Norm>::of("{type: LN}");
  for (int i = 0; i < 2; ++i) norms_->push_back(norm.build(o.embed_dims));
}

torch::Tensor PreNormLayer::feed_forward(const torch::Tensor& x) {
  return ffn_->forward((*norms_)[1].forward(x), x);
}

torch::Tensor PreNormLayer::forward(const torch::Tensor& tokens, const torch::Tensor& mask) {
  return feed_forward(attention_->forward(
      {.query = (*norms_)[0].forward(tokens), .identity = tokens, .mask = mask}));
}

torch::Tensor PreNormLayer::attend(const torch::Tensor& tokens, const torch::Tensor& memory,
                                   const torch::Tensor& bias) {
  const auto query = (*norms_)[0].forward(tokens);
  const auto keys = at::cat({(*norms_)[0].forward(memory), query}, 1);
  // Of the other tokens each sees none.
  const int64_t count = tokens.size(1);
  const auto own =
      at::full({count, count}, -std::numeric_limits<double>::infinity(), bias.options())
          .fill_diagonal_(0)
          .expand({bias.size(0), bias.size(1), count, count});
  return feed_forward(attention_->forward({.query = query,
                                           .key = keys,
                                           .value = keys,
                                           .identity = tokens,
                                           .mask = at::cat({bias, own}, 3)}));
}

}  // namespace seg
