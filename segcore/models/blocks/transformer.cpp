#include "segcore/models/blocks/transformer.hpp"

#include "segcore/ops/attention/attention.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {

PackedAttention::PackedAttention(int64_t embed_dims, int64_t num_heads, double dropout, bool bias)
    : heads_(num_heads), dropout_(dropout) {
  SEG_CHECK(num_heads > 0 && embed_dims % num_heads == 0, "a width of ", embed_dims,
            " cannot be shared by ", num_heads, " heads");
  in_proj_weight_ =
      register_parameter("in_proj_weight", torch::empty({3 * embed_dims, embed_dims}));
  torch::nn::init::xavier_uniform_(in_proj_weight_);
  if (bias) in_proj_bias_ = register_parameter("in_proj_bias", torch::zeros({3 * embed_dims}));
  out_proj_ = register_module("out_proj", std::make_shared<Linear>(embed_dims, embed_dims, bias));
  if (bias) torch::nn::init::zeros_(out_proj_->bias);
}

torch::Tensor PackedAttention::forward(const torch::Tensor& query, const torch::Tensor& key,
                                       const torch::Tensor& value, const torch::Tensor& mask) {
  const int64_t c = query.size(2);
  // [N, L, C] -> [N, heads, L, C / heads]
  const auto split = [&](const torch::Tensor& x) {
    return x.view({x.size(0), x.size(1), heads_, c / heads_}).transpose(1, 2);
  };
  torch::Tensor q, k, v;
  if (query.is_same(key) && key.is_same(value)) {
    const auto parts = linear_rows(query, in_proj_weight_, in_proj_bias_).chunk(3, -1);
    q = parts[0], k = parts[1], v = parts[2];
  } else if (key.is_same(value)) {
    const auto weights = in_proj_weight_.split_with_sizes({c, 2 * c});
    const auto biases = in_proj_bias_.defined() ? in_proj_bias_.split_with_sizes({c, 2 * c})
                                                : std::vector<torch::Tensor>(2);
    q = linear_rows(query, weights[0], biases[0]);
    const auto parts = linear_rows(key, weights[1], biases[1]).chunk(2, -1);
    k = parts[0], v = parts[1];
  } else {
    const auto weights = in_proj_weight_.chunk(3);
    const auto biases =
        in_proj_bias_.defined() ? in_proj_bias_.chunk(3) : std::vector<torch::Tensor>(3);
    q = linear_rows(query, weights[0], biases[0]);
    k = linear_rows(key, weights[1], biases[1]);
    v = linear_rows(value, weights[2], biases[2]);
  }
  const auto out =
      attention(split(q), split(k), split(v), mask, {.dropout = is_training() ? dropout_ : 0.0});
  return out_proj_->forward(out.transpose(1, 2).reshape({query.size(0), query.size(1), c}));
}

MultiheadAttention::MultiheadAttention(const AttentionOptions& o) {
  attn_ = register_module(
      "attn", std::make_shared<PackedAttention>(o.embed_dims, o.num_heads, o.attn_drop, o.bias));
  proj_drop_ = register_module("proj_drop", std::make_shared<Dropout>(o.proj_drop));
  if (o.dropout_layer) dropout_layer_ = register_module("dropout_layer", o.dropout_layer->build());
}

torch::Tensor MultiheadAttention::forward(const Inputs& in) {
  torch::Tensor query = in.query;
  torch::Tensor key = in.key.defined() ? in.key : in.query;
  const torch::Tensor value = in.value.defined() ? in.value : key;
  const torch::Tensor identity = in.identity.defined() ? in.identity : in.query;
  torch::Tensor key_pos = in.key_pos;
  if (!key_pos.defined() && in.query_pos.defined() && in.query_pos.sizes() == key.sizes()) {
    key_pos = in.query_pos;
  }
  if (in.query_pos.defined()) query = query + in.query_pos;
  if (key_pos.defined()) key = key + key_pos;
  auto out = proj_drop_->forward(attn_->forward(query, key, value, in.mask));
  if (dropout_layer_) out = dropout_layer_->forward(out);
  return identity + out;
}

LayerScale::LayerScale(int64_t dim, double value, bool channels_first, const std::string& name)
    : channels_first_(channels_first),
      weight_(register_parameter(name, torch::full({dim}, value))) {}

torch::Tensor LayerScale::forward(const torch::Tensor& x) {
  return channels_first_ ? x * weight_.view({-1, 1, 1}) : x * weight_;
}

FFN::FFN(const FFNOptions& o) : add_identity_(o.add_identity) {
  layers_ = std::make_shared<Sequential>();
  int64_t width = o.embed_dims;
  for (int64_t i = 1; i < o.num_fcs; ++i) {
    auto block = std::make_shared<Sequential>();
    block->push_back(std::make_shared<Linear>(width, o.feedforward_channels));
    block->push_back(o.act_cfg ? std::shared_ptr<Layer>(o.act_cfg->build(true))
                               : std::make_shared<Identity>());
    block->push_back(std::make_shared<Dropout>(o.ffn_drop));
    layers_->push_back(block);
    width = o.feedforward_channels;
  }
  layers_->push_back(std::make_shared<Linear>(width, o.embed_dims));
  layers_->push_back(std::make_shared<Dropout>(o.ffn_drop));
  register_module("layers", layers_);
  if (o.dropout_layer) dropout_layer_ = register_module("dropout_layer", o.dropout_layer->build());
  if (o.layer_scale_init_value > 0) {
    gamma2_ = register_module("gamma2",
                              std::make_shared<LayerScale>(o.embed_dims, o.layer_scale_init_value));
  }
}

torch::Tensor FFN::forward(const torch::Tensor& x, const torch::Tensor& identity) {
  auto out = layers_->forward(x);
  if (gamma2_) out = gamma2_->forward(out);
  if (dropout_layer_) out = dropout_layer_->forward(out);
  if (!add_identity_) return out;
  return (identity.defined() ? identity : x) + out;
}

}  // namespace seg
