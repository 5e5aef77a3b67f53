#include "segcore/models/blocks/detr_layers.hpp"

#include "segcore/torch.hpp"

namespace seg {
namespace {

std::shared_ptr<ListOf<Norm>> detr_norms(const Spec<Norm>& cfg, int64_t width, int count) {
  auto out = std::make_shared<ListOf<Norm>>();
  for (int i = 0; i < count; ++i) out->push_back(cfg.build(width));
  return out;
}

/// Attentions and the feed-forward block of a layer as its children: by names of their own, or in
/// lists as in mmdet 2.x.
void register_detr_parts(
    torch::nn::Module& layer,
    const std::vector<std::pair<std::string, std::shared_ptr<BaseModule>>>& attentions,
    const std::shared_ptr<FFN>& ffn, bool older_names) {
  if (!older_names) {
    for (const auto& [name, attention] : attentions) layer.register_module(name, attention);
    layer.register_module("ffn", ffn);
    return;
  }
  auto list = layer.register_module("attentions", std::make_shared<ListOf<BaseModule>>());
  for (const auto& [name, attention] : attentions) list->push_back(attention);
  layer.register_module("ffns", std::make_shared<ListOf<FFN>>())->push_back(ffn);
}

}  // namespace

Schema<DetrAttentionCfg> DetrAttentionCfg::schema() {
  using P = DetrAttentionCfg;
  return Schema<P>("Attention.")
      .optional("embed_dims", &P::embed_dims, "width", at_least(1))
      .optional("num_heads", &P::num_heads, "heads", at_least(1))
      .optional("attn_drop", &P::attn_drop, "dropout of the weights", in_range(0, 1))
      .optional("proj_drop", &P::proj_drop, "dropout of the outcome", in_range(0, 1))
      .optional("dropout", &P::dropout, "older name of attn_drop, and of dropout_layer's",
                in_range(0, 1))
      .optional("dropout_layer", &P::dropout_layer, "before the shortcut; null: none")
      .optional("bias", &P::bias, "of the projections")
      .accepted("type", "there is one type")
      .accepted("batch_first", "the batch is always first")
      .accepted("init_cfg", "the head initialises the weights");
}

std::shared_ptr<MultiheadAttention> DetrAttentionCfg::build() const {
  AttentionOptions o{.embed_dims = embed_dims,
                     .num_heads = num_heads,
                     .attn_drop = dropout.value_or(attn_drop),
                     .proj_drop = proj_drop,
                     .dropout_layer = dropout_layer,
                     .bias = bias};
  if (dropout) {
    // The older name sets the probability of whatever layer is there.
    o.dropout_layer =
        Spec<DropLayer>::of(text("{type: ", dropout_layer ? dropout_layer->type() : "Dropout",
                                 ", drop_prob: ", *dropout, "}"));
  }
  return std::make_shared<MultiheadAttention>(o);
}

Schema<DeformableAttentionCfg> DeformableAttentionCfg::schema() {
  using P = DeformableAttentionCfg;
  return Schema<P>("Attention to points.")
      .optional("embed_dims", &P::embed_dims, "width", at_least(1))
      .optional("num_heads", &P::num_heads, "heads", at_least(1))
      .optional("num_levels", &P::num_levels, "maps", at_least(1))
      .optional("num_points", &P::num_points, "points of each head in each map", at_least(1))
      .optional("dropout", &P::dropout, "of the outcome", in_range(0, 1))
      .optional("value_proj_ratio", &P::value_proj_ratio, "width of the values to the width",
                above(0))
      .accepted("im2col_step", "concerns mmcv's CUDA kernel")
      .accepted("type", "there is one type")
      .accepted("batch_first", "the batch is always first")
      .accepted("norm_cfg", "there is no norm")
      .accepted("init_cfg", "the head initialises the weights");
}

std::shared_ptr<MultiScaleDeformableAttention> DeformableAttentionCfg::build() const {
  return std::make_shared<MultiScaleDeformableAttention>(
      DeformableAttentionOptions{.embed_dims = embed_dims,
                                 .num_heads = num_heads,
                                 .num_levels = num_levels,
                                 .num_points = num_points,
                                 .dropout = dropout,
                                 .value_proj_ratio = value_proj_ratio});
}

Schema<DetrFFNCfg> DetrFFNCfg::schema() {
  using P = DetrFFNCfg;
  return Schema<P>("Feed-forward block.")
      .optional("embed_dims", &P::embed_dims, "width", at_least(1))
      .optional("feedforward_channels", &P::feedforward_channels, "width inside", at_least(1))
      .optional("num_fcs", &P::num_fcs, "layers", at_least(2))
      .optional("act_cfg", &P::act_cfg, "type of the activations")
      .optional("ffn_drop", &P::ffn_drop, "dropout after each layer", in_range(0, 1))
      .optional("dropout", &P::dropout, "older name of ffn_drop", in_range(0, 1))
      .optional("dropout_layer", &P::dropout_layer, "before the shortcut; null: none")
      .optional("add_identity", &P::add_identity, "add a shortcut")
      .optional("add_residual", &P::add_residual, "older name of add_identity")
      .optional("layer_scale_init_value", &P::layer_scale_init_value,
                "first value of a learned factor of each channel; 0: none", at_least(0))
      .accepted("type", "there is one type")
      .accepted("with_cp", "num_cp of the encoder recomputes layers")
      .accepted("init_cfg", "the head initialises the weights")
      .validate([](const P& p, Problems& problems) {
        const auto once = [&](bool older, const char* name, const char* newer) {
          if (older && problems.given(newer)) {
            problems.error(name, text("is the older name of ", newer, ", which is given too"));
          }
        };
        once(p.dropout.has_value(), "dropout", "ffn_drop");
        once(p.add_residual.has_value(), "add_residual", "add_identity");
      });
}

std::shared_ptr<FFN> DetrFFNCfg::build() const {
  return std::make_shared<FFN>(FFNOptions{.embed_dims = embed_dims,
                                          .feedforward_channels = feedforward_channels,
                                          .num_fcs = num_fcs,
                                          .act_cfg = act_cfg,
                                          .ffn_drop = dropout.value_or(ffn_drop),
                                          .dropout_layer = dropout_layer,
                                          .add_identity = add_residual.value_or(add_identity),
                                          .layer_scale_init_value = layer_scale_init_value});
}

Schema<DetrEncoderLayerCfg> DetrEncoderLayerCfg::schema() {
  using P = DetrEncoderLayerCfg;
  return Schema<P>("A layer of the encoder.")
      .optional("self_attn_cfg", &P::self_attn_cfg, "attention among the queries")
      .optional("ffn_cfg", &P::ffn_cfg, "feed-forward block")
      .optional("norm_cfg", &P::norm_cfg, "type of the norms")
      .accepted("init_cfg", "the head initialises the weights");
}

Schema<DeformableEncoderLayerCfg> DeformableEncoderLayerCfg::schema() {
  using P = DeformableEncoderLayerCfg;
  return Schema<P>("A layer of the encoder.")
      .optional("self_attn_cfg", &P::self_attn_cfg, "attention to points")
      .optional("ffn_cfg", &P::ffn_cfg, "feed-forward block")
      .optional("norm_cfg", &P::norm_cfg, "type of the norms")
      .accepted("init_cfg", "the head initialises the weights");
}

Schema<DetrDecoderLayerCfg> DetrDecoderLayerCfg::schema() {
  using P = DetrDecoderLayerCfg;
  return Schema<P>("A layer of the decoder.")
      .optional("self_attn_cfg", &P::self_attn_cfg, "attention among the queries")
      .optional("cross_attn_cfg", &P::cross_attn_cfg, "attention to the memory")
      .optional("ffn_cfg", &P::ffn_cfg, "feed-forward block")
      .optional("norm_cfg", &P::norm_cfg, "type of the norms")
      .accepted("init_cfg", "the head initialises the weights");
}

Schema<DetrDecoderCfg> DetrDecoderCfg::schema() {
  using P = DetrDecoderCfg;
  return Schema<P>("Transformer decoder.")
      .required("num_layers", &P::num_layers, "layers", at_least(1))
      .optional("layer_cfg", &P::layer_cfg, "options of each layer")
      .optional("transformerlayers", &P::transformerlayers,
                "the same as in mmdet 2.x, whose names the weights have then")
      .optional("post_norm_cfg", &P::post_norm_cfg, "norm after each layer's outcome")
      .optional("return_intermediate", &P::return_intermediate,
                "supervise every layer, not only the last")
      .accepted("type", "there is one type")
      .accepted("init_cfg", "the head initialises the weights")
      .validate([](const P& p, Problems& problems) {
        check_operation_order(p, {"cross_attn", "norm", "self_attn", "norm", "ffn", "norm"},
                              problems);
      });
}

DetrDecoderLayerCfg DetrDecoderCfg::layer() const {
  if (!transformerlayers) return layer_cfg;
  return {.self_attn_cfg = transformerlayers->attn_cfgs,
          .cross_attn_cfg = transformerlayers->attn_cfgs,
          .ffn_cfg = transformerlayers->ffn_cfgs,
          .norm_cfg = transformerlayers->norm_cfg,
          .older_names = true};
}

torch::Tensor allowed_keys(const torch::Tensor& padding) {
  if (!padding.defined()) return {};
  return padding.logical_not().view({padding.size(0), 1, 1, -1});
}

DetrEncoderLayer::DetrEncoderLayer(const DetrEncoderLayerCfg& cfg) {
  self_attn_ = cfg.self_attn_cfg.build();
  ffn_ = cfg.ffn_cfg.build();
  register_detr_parts(*this, {{"self_attn", self_attn_}}, ffn_, cfg.older_names);
  norms_ = register_module("norms", detr_norms(cfg.norm_cfg, cfg.self_attn_cfg.embed_dims, 2));
}

torch::Tensor DetrEncoderLayer::forward(const torch::Tensor& query, const torch::Tensor& query_pos,
                                        const torch::Tensor& allowed) {
  auto out = self_attn_->forward(MultiheadAttention::Inputs{.query = query,
                                                            .key = query,
                                                            .value = query,
                                                            .query_pos = query_pos,
                                                            .key_pos = query_pos,
                                                            .mask = allowed});
  out = ffn_->forward((*norms_)[0].forward(out));
  return (*norms_)[1].forward(out);
}

DeformableEncoderLayer::DeformableEncoderLayer(const DeformableEncoderLayerCfg& cfg) {
  self_attn_ = cfg.self_attn_cfg.build();
  ffn_ = cfg.ffn_cfg.build();
  register_detr_parts(*this, {{"self_attn", self_attn_}}, ffn_, cfg.older_names);
  norms_ = register_module("norms", detr_norms(cfg.norm_cfg, cfg.self_attn_cfg.embed_dims, 2));
}

torch::Tensor DeformableEncoderLayer::forward(const torch::Tensor& query,
                                              const torch::Tensor& query_pos,
                                              const torch::Tensor& reference,
                                              const std::vector<Size2>& sizes) {
  auto out = self_attn_->forward(query, query_pos, reference, sizes);
  out = ffn_->forward((*norms_)[0].forward(out));
  return (*norms_)[1].forward(out);
}

DetrDecoderLayer::DetrDecoderLayer(const DetrDecoderLayerCfg& cfg) {
  self_attn_ = cfg.self_attn_cfg.build();
  cross_attn_ = cfg.cross_attn_cfg.build();
  ffn_ = cfg.ffn_cfg.build();
  if (cfg.older_names) {
    // In the order of the operations.
    register_detr_parts(*this, {{"", cross_attn_}, {"", self_attn_}}, ffn_, true);
  } else {
    register_detr_parts(*this, {{"self_attn", self_attn_}, {"cross_attn", cross_attn_}}, ffn_,
                        false);
  }
  norms_ = register_module("norms", detr_norms(cfg.norm_cfg, cfg.self_attn_cfg.embed_dims, 3));
}

torch::Tensor DetrDecoderLayer::forward(const Inputs& in) {
  const auto among = [&](const torch::Tensor& x) {
    return self_attn_->forward(MultiheadAttention::Inputs{
        .query = x, .key = x, .value = x, .query_pos = in.query_pos, .key_pos = in.query_pos});
  };
  const auto across = [&](const torch::Tensor& x) {
    return cross_attn_->forward(MultiheadAttention::Inputs{.query = x,
                                                           .key = in.memory,
                                                           .value = in.memory,
                                                           .query_pos = in.query_pos,
                                                           .key_pos = in.memory_pos,
                                                           .mask = in.allowed});
  };
  auto x = (*norms_)[0].forward(in.memory_first ? across(in.query) : among(in.query));
  x = (*norms_)[1].forward(in.memory_first ? among(x) : across(x));
  return (*norms_)[2].forward(ffn_->forward(x));
}

DetrDecoder::DetrDecoder(const DetrDecoderCfg& cfg) {
  layers_ = register_module("layers", std::make_shared<ListOf<DetrDecoderLayer>>());
  for (int64_t i = 0; i < cfg.num_layers; ++i) {
    layers_->push_back(std::make_shared<DetrDecoderLayer>(cfg.layer()));
  }
  post_norm_ =
      register_module("post_norm", cfg.post_norm_cfg.build(cfg.layer().self_attn_cfg.embed_dims));
}

}  // namespace seg
