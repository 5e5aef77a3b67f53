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

struct DetrEncoderLayerCfg {
  DetrAttentionCfg self_attn_cfg;
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  static Schema<DetrEncoderLayerCfg> schema();
};

struct DeformableEncoderLayerCfg {
  DeformableAttentionCfg self_attn_cfg{.dropout = 0};
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  static Schema<DeformableEncoderLayerCfg> schema();
};

struct DetrDecoderLayerCfg {
  DetrAttentionCfg self_attn_cfg, cross_attn_cfg;
  DetrFFNCfg ffn_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  static Schema<DetrDecoderLayerCfg> schema();
};

/// An encoder of equal layers.
template <class LayerCfg>
struct DetrEncoderCfg {
  int64_t num_layers = 0;
  LayerCfg layer_cfg;
  int64_t num_cp = -1;
  static Schema<DetrEncoderCfg> schema() {
    return Schema<DetrEncoderCfg>("Transformer encoder.")
        .required("num_layers", &DetrEncoderCfg::num_layers, "layers", at_least(1))
        .optional("layer_cfg", &DetrEncoderCfg::layer_cfg, "options of each layer")
        .optional("num_cp", &DetrEncoderCfg::num_cp,
                  "layers to recompute in the backward pass, which saves memory; -1: none",
                  at_least(-1))
        .accepted("init_cfg", "the head initialises the weights")
        .validate([](const DetrEncoderCfg& cfg, Problems& problems) {
          if (cfg.num_cp > cfg.num_layers) {
            problems.error("num_cp", text("is ", cfg.num_cp, " of ", cfg.num_layers, " layers"));
          }
        });
  }
};

struct DetrDecoderCfg {
  int64_t num_layers = 0;
  DetrDecoderLayerCfg layer_cfg;
  Spec<Norm> post_norm_cfg = Spec<Norm>::of("{type: LN}");
  bool return_intermediate = true;
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
