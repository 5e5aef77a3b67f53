/// Transformer layers of DETR and its successors, with mmdet's options and names.
#pragma once
#include "segcore/models/blocks/deformable_attention.hpp"
#include "segcore/models/blocks/transformer.hpp"

namespace seg {

/// `self_attn_cfg` and `cross_attn_cfg`.
struct DetrAttentionCfg {
  int64_t embed_dims = 256, num_heads = 8;
  double attn_drop = 0, proj_drop = 0;
  std::optional<double> dropout;
  DropCfg dropout_layer;
  bool bias = true;
  static Schema<DetrAttentionCfg> schema();
  std::shared_ptr<MultiheadAttention> build() const;
};

/// `self_attn_cfg` of a layer that attends to points.
struct DeformableAttentionCfg {
  int64_t embed_dims = 256, num_heads = 8, num_levels = 4, num_points = 4;
  double dropout = 0.1, value_proj_ratio = 1;
  static Schema<DeformableAttentionCfg> schema();
  std::shared_ptr<MultiScaleDeformableAttention> build() const;
};

struct DetrFFNCfg {
  int64_t embed_dims = 256, feedforward_channels = 1024, num_fcs = 2;
  ActCfg act_cfg = act_cfg_of("{type: ReLU, inplace: true}");
  double ffn_drop = 0;
  std::optional<double> dropout;
  DropCfg dropout_layer;
  bool add_identity = true;
  std::optional<bool> add_residual;
  double layer_scale_init_value = 0;
  static Schema<DetrFFNCfg> schema();
  std::shared_ptr<FFN> build() const;
};

/// `transformerlayers`, the options of a layer in mmdet 2.x.
template <class AttentionCfg>
struct OlderDetrLayerCfg {
  AttentionCfg attn_cfgs;  ///< of each attention
  DetrFFNCfg ffn_cfgs;
  std::vector<std::string> operation_order;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  static Schema<OlderDetrLayerCfg> schema() {
    using P = OlderDetrLayerCfg;
    return Schema<P>("A layer, as in mmdet 2.x.")
        .optional("attn_cfgs", &P::attn_cfgs, "each attention")
        .optional("ffn_cfgs", &P::ffn_cfgs, "feed-forward block")
        .required("operation_order", &P::operation_order,
                  "attentions, norms and feed-forward block")
        .optional("norm_cfg", &P::norm_cfg, "type of the norms")
        .accepted("type", "there is one type")
        .accepted("feedforward_channels", "ffn_cfgs has it")
        .accepted("init_cfg", "the head initialises the weights");
  }
};

/// Reports an older layer whose operations are not these.
template <class Cfg>
void check_operation_order(const Cfg& cfg, const std::vector<std::string>& order,
                           Problems& problems) {
  if (!cfg.transformerlayers) return;
  if (problems.given("layer_cfg")) {
    problems.error("transformerlayers", "is the older form of layer_cfg, which is given too");
  }
  if (cfg.transformerlayers->operation_order == order) return;
  problems.error("transformerlayers.operation_order", "must be [" + join(order, ", ") + "]");
}

struct DetrEncoderLayerCfg {
  DetrAttentionCfg self_attn_cfg;
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  bool older_names = false;  ///< children have the names of mmdet 2.x
  static Schema<DetrEncoderLayerCfg> schema();
};

struct DeformableEncoderLayerCfg {
  DeformableAttentionCfg self_attn_cfg{.dropout = 0};
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  bool older_names = false;
  static Schema<DeformableEncoderLayerCfg> schema();
};

struct DetrDecoderLayerCfg {
  DetrAttentionCfg self_attn_cfg, cross_attn_cfg;
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  bool older_names = false;
  static Schema<DetrDecoderLayerCfg> schema();
};

/// An encoder of equal layers.
template <class LayerCfg>
struct DetrEncoderCfg {
  int64_t num_layers = 0;
  LayerCfg layer_cfg;
  std::optional<OlderDetrLayerCfg<decltype(LayerCfg::self_attn_cfg)>> transformerlayers;
  int64_t num_cp = -1;
  /// Of each layer, in whichever form they are given.
  LayerCfg layer() const {
    if (!transformerlayers) return layer_cfg;
    return {.self_attn_cfg = transformerlayers->attn_cfgs,
            .ffn_cfg = transformerlayers->ffn_cfgs,
            .norm_cfg = transformerlayers->norm_cfg,
            .older_names = true};
  }
  static Schema<DetrEncoderCfg> schema() {
    return Schema<DetrEncoderCfg>("Transformer encoder.")
        .required("num_layers", &DetrEncoderCfg::num_layers, "layers", at_least(1))
        .optional("layer_cfg", &DetrEncoderCfg::layer_cfg, "options of each layer")
        .optional("transformerlayers", &DetrEncoderCfg::transformerlayers,
                  "the same as in mmdet 2.x, whose names the weights have then")
        .optional("num_cp", &DetrEncoderCfg::num_cp,
                  "layers to recompute in the backward pass, which saves memory; -1: none",
                  at_least(-1))
        .accepted("type", "there is one type")
        .accepted("init_cfg", "the head initialises the weights")
        .validate([](const DetrEncoderCfg& cfg, Problems& problems) {
          check_operation_order(cfg, {"self_attn", "norm", "ffn", "norm"}, problems);
          if (cfg.num_cp > cfg.num_layers) {
            problems.error("num_cp", text("is ", cfg.num_cp, " of ", cfg.num_layers, " layers"));
          }
        });
  }
};

struct DetrDecoderCfg {
  int64_t num_layers = 0;
  DetrDecoderLayerCfg layer_cfg;
  std::optional<OlderDetrLayerCfg<DetrAttentionCfg>> transformerlayers;
  Spec<Norm> post_norm_cfg = Spec<Norm>::of("{type: LN}");
  bool return_intermediate = true;
  /// Of each layer, in whichever form they are given.
  DetrDecoderLayerCfg layer() const;
  static Schema<DetrDecoderCfg> schema();
};

/// The mask `allowed` of layers whose keys are the positions of a map: all but padding.
/// \param padding  bool [N, h, w], true where the map shows padding, or undefined.
/// \return bool [N, 1, 1, h * w], or undefined.
torch::Tensor allowed_keys(const torch::Tensor& padding);

/// Attention among the queries and a feed-forward block, each followed by a norm.
class DetrEncoderLayer final : public BaseModule {
 public:
  explicit DetrEncoderLayer(const DetrEncoderLayerCfg& cfg);
  /// \param allowed  bool, broadcast to [N, heads, Q, Q]; undefined: everything.
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& query_pos,
                        const torch::Tensor& allowed = {});

 private:
  std::shared_ptr<MultiheadAttention> self_attn_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<ListOf<Norm>> norms_;
};

/// The same with attention to points.
class DeformableEncoderLayer final : public BaseModule {
 public:
  explicit DeformableEncoderLayer(const DeformableEncoderLayerCfg& cfg);
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& query_pos,
                        const torch::Tensor& reference, const std::vector<Size2>& sizes);

 private:
  std::shared_ptr<MultiScaleDeformableAttention> self_attn_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<ListOf<Norm>> norms_;
};

/// Attention among the queries, attention to a memory, a feed-forward block.
class DetrDecoderLayer final : public BaseModule {
 public:
  explicit DetrDecoderLayer(const DetrDecoderLayerCfg& cfg);
  struct Inputs {
    torch::Tensor query, query_pos;    ///< [N, Q, C]
    torch::Tensor memory, memory_pos;  ///< [N, S, C]
    torch::Tensor allowed;      ///< bool, broadcast to [N, heads, Q, S]; undefined: everything
    bool memory_first = false;  ///< attend to the memory first, as Mask2Former
  };
  torch::Tensor forward(const Inputs& in);

 private:
  std::shared_ptr<MultiheadAttention> self_attn_, cross_attn_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<ListOf<Norm>> norms_;
};

/// Layers and the norm behind each: children `layers`, `post_norm`.
class DetrDecoder final : public BaseModule {
 public:
  explicit DetrDecoder(const DetrDecoderCfg& cfg);
  ListOf<DetrDecoderLayer>& layers() { return *layers_; }
  Norm& post_norm() { return *post_norm_; }

 private:
  std::shared_ptr<ListOf<DetrDecoderLayer>> layers_;
  std::shared_ptr<Norm> post_norm_;
};

}  // namespace seg
