/// Attention and feed-forward blocks with mmcv's parameter names.
#pragma once
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

/// torch.nn.MultiheadAttention with equal widths, batch first: parameters `in_proj_weight`,
/// `in_proj_bias`, child `out_proj`.
class PackedAttention final : public BaseModule, public DropsValues {
 public:
  PackedAttention(int64_t embed_dims, int64_t num_heads, double dropout = 0, bool bias = true);
  /// query [N, L, C], key and value [N, S, C].
  /// \param mask  added to the scores (float), or true where attention is allowed (bool); any
  ///              shape that broadcasts to [N, heads, L, S]; undefined for none.
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& key,
                        const torch::Tensor& value, const torch::Tensor& mask = {});
  void set_drop_probability(double p) override { dropout_ = p; }
  std::vector<std::string> python_names() const override { return {"MultiheadAttention"}; }

 private:
  int64_t heads_;
  double dropout_;
  torch::Tensor in_proj_weight_, in_proj_bias_;
  std::shared_ptr<Linear> out_proj_;
};

struct AttentionOptions {
  int64_t embed_dims = 0, num_heads = 1;
  double attn_drop = 0, proj_drop = 0;
  DropCfg dropout_layer;  ///< before the shortcut is added
  bool bias = true;       ///< of the projections to query, key and value, and of the output's
};

/// mmcv's MultiheadAttention: attention add a shortcut; child `attn`. Batch first.
class MultiheadAttention final : public BaseModule {
 public:
  explicit MultiheadAttention(const AttentionOptions& options);
  struct Inputs {
    torch::Tensor query;       ///< [N, L, C]
    torch::Tensor key, value;  ///< [N, S, C]; undefined: the query, the key
    torch::Tensor identity;    ///< shortcut; undefined: the query
    torch::Tensor query_pos, key_pos;
    torch::Tensor mask;  ///< as PackedAttention's
  };
  torch::Tensor forward(const Inputs& in);
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& identity = {}) {
    return forward(Inputs{.query = query, .identity = identity});
  }

 private:
  std::shared_ptr<PackedAttention> attn_;
  std::shared_ptr<DropLayer> proj_drop_, dropout_layer_;
};

/// Multiplies each channel by a learned factor: parameter `weight` (or `scale`).
class LayerScale final : public Layer {
 public:
  LayerScale(int64_t dim, double value, bool channels_first = false,
             const std::string& name = "weight");
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  bool channels_first_;
  torch::Tensor weight_;
};

struct FFNOptions {
  int64_t embed_dims = 256, feedforward_channels = 1024, num_fcs = 2;
  ActCfg act_cfg = relu_cfg();
  double ffn_drop = 0;
  DropCfg dropout_layer;
  bool add_identity = true;
  double layer_scale_init_value = 0;
};

/// mmcv's FFN: children `layers.0.0`, ..., `layers.1`, `gamma2`.
class FFN final : public BaseModule {
 public:
  explicit FFN(const FFNOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& identity = {});

 private:
  bool add_identity_;
  std::shared_ptr<Sequential> layers_;
  std::shared_ptr<DropLayer> dropout_layer_;
  std::shared_ptr<LayerScale> gamma2_;
};

}  // namespace seg
