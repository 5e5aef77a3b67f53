#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/efficient_attention.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A feed-forward block whose 3x3 convolution encodes positions: `layers.0`, `.1`, `.4`.
class MixFFN final : public BaseModule {
 public:
  struct Options {
    int64_t embed_dims = 0, feedforward_channels = 0;
    double ffn_drop = 0, drop_path = 0;
    ActCfg act_cfg;
  };
  explicit MixFFN(const Options& o) {
    activate_ = register_module("activate", o.act_cfg->build(false));
    auto layers = std::make_shared<Sequential>();
    const auto conv = [&](const ConvOptions& options) {
      auto layer = std::make_shared<Conv2d>(options);
      layers->push_back(layer);
      return layer;
    };
    const int64_t inner = o.feedforward_channels;
    fc1_ = conv({.in_channels = o.embed_dims, .out_channels = inner});
    position_ = conv({.in_channels = inner,
                      .out_channels = inner,
                      .kernel_size = 3,
                      .padding = 1,
                      .groups = inner});
    layers->push_back(activate_);
    drop_ = std::make_shared<Dropout>(o.ffn_drop);
    layers->push_back(drop_);
    fc2_ = conv({.in_channels = inner, .out_channels = o.embed_dims});
    layers->push_back(drop_);
    register_module("layers", layers);
    drop_path_ = register_module("dropout_layer", std::make_shared<DropPath>(o.drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x, Size2 size, const torch::Tensor& identity) {
    // 1x1 convolutions of tokens are linear layers: no copy to maps and back is needed for them.
    auto out = linear_rows(x, fc1_->weight.flatten(1), fc1_->bias);  // [N, h * w, inner]
    out = position_->forward(nlc_to_nchw(out, size));                // [N, inner, h, w]
    out = drop_->forward(activate_->forward(nchw_to_nlc(out)));      // [N, h * w, inner]
    out = drop_->forward(linear_rows(out, fc2_->weight.flatten(1), fc2_->bias));
    return identity + drop_path_->forward(out);
  }

 private:
  std::shared_ptr<Activation> activate_;
  std::shared_ptr<Conv2d> fc1_, position_, fc2_;
  std::shared_ptr<Dropout> drop_;
  std::shared_ptr<DropPath> drop_path_;
};

}  // namespace

struct MixVisionTransformerParams {
  int64_t in_channels = 3;
  int64_t embed_dims = 64;
  int64_t num_stages = 4;
  std::vector<int64_t> num_layers{3, 4, 6, 3};
  std::vector<int64_t> num_heads{1, 2, 4, 8};
  std::vector<int64_t> patch_sizes{7, 3, 3, 3};
  std::vector<int64_t> strides{4, 2, 2, 2};
  std::vector<int64_t> sr_ratios{8, 4, 2, 1};
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  int64_t mlp_ratio = 4;
  bool qkv_bias = true;
  double drop_rate = 0;
  double attn_drop_rate = 0;
  double drop_path_rate = 0;
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN, eps: 1e-6}");
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
  bool with_cp = false;
};

namespace {

/// One block: attention and MixFFN, each after a norm.
class MitEncoderLayer final : public BaseModule {
 public:
  MitEncoderLayer(const MixVisionTransformerParams& p, size_t stage, double drop_path)
      : with_cp_(p.with_cp) {
    const int64_t dims = p.embed_dims * p.num_heads[stage];
    norm1_ = register_module("norm1", p.norm_cfg.build(dims));
    attn_ = register_module("attn", std::make_shared<EfficientMultiheadAttention>(
                                        EfficientAttentionOptions{.embed_dims = dims,
                                                                  .num_heads = p.num_heads[stage],
                                                                  .sr_ratio = p.sr_ratios[stage],
                                                                  .attn_drop = p.attn_drop_rate,
                                                                  .proj_drop = p.drop_rate,
                                                                  .drop_path = drop_path,
                                                                  .qkv_bias = p.qkv_bias,
                                                                  .norm_cfg = p.norm_cfg}));
    norm2_ = register_module("norm2", p.norm_cfg.build(dims));
    ffn_ = register_module(
        "ffn", std::make_shared<MixFFN>(MixFFN::Options{.embed_dims = dims,
                                                        .feedforward_channels = p.mlp_ratio * dims,
                                                        .ffn_drop = p.drop_rate,
                                                        .drop_path = drop_path,
                                                        .act_cfg = p.act_cfg}));
  }
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    const auto block = [this, size](const torch::Tensor& x) {
      const auto y = x + attn_->forward(norm1_->forward(x), size);
      return ffn_->forward(norm2_->forward(y), size, y);
    };
    return run_block(with_cp_, block, tokens);
  }

 private:
  bool with_cp_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<EfficientMultiheadAttention> attn_;
  std::shared_ptr<MixFFN> ffn_;
};

}  // namespace

/// A pyramid of transformer stages without position embeddings.
///
/// SegFormer, Xie et al. 2021, arXiv:2105.15203, section 3.1.
class MixVisionTransformer final : public Backbone {
 public:
  using Params = MixVisionTransformerParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A pyramid of transformer stages without position embeddings (MiT).")
        .source("SegFormer, Xie et al. 2021, arXiv:2105.15203")
        .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
        .optional("embed_dims", &P::embed_dims,
                  "width of a head; a stage has num_heads times as much", at_least(1))
        .optional("num_stages", &P::num_stages, "stages", at_least(1))
        .optional("num_layers", &P::num_layers, "blocks of each stage", at_least(0))
        .optional("num_heads", &P::num_heads, "attention heads of each stage", at_least(1))
        .optional("patch_sizes", &P::patch_sizes, "kernel of each stage's patch embedding",
                  at_least(1))
        .optional("strides", &P::strides, "stride of each stage's patch embedding", at_least(1))
        .optional("sr_ratios", &P::sr_ratios, "reduction of keys and values in each stage",
                  at_least(1))
        .optional("out_indices", &P::out_indices, "stages whose maps are returned", at_least(0))
        .optional("mlp_ratio", &P::mlp_ratio,
                  "width of the feed-forward blocks over that of tokens", at_least(1))
        .optional("qkv_bias", &P::qkv_bias, "biases in attention")
        .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
        .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                  in_range(0, 1))
        .optional("drop_path_rate", &P::drop_path_rate,
                  "stochastic depth of the last block; rises from 0", in_range(0, 1))
        .optional("act_cfg", &P::act_cfg, "activation of the feed-forward blocks")
        .optional("norm_cfg", &P::norm_cfg, "norms")
        .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
        .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
        .validate([](const P& p, Problems& problems) {
          const auto stages = static_cast<size_t>(p.num_stages);
          const auto check = [&](const char* name, const std::vector<int64_t>& list) {
            if (list.size() != stages) {
              problems.error(name, text("has ", list.size(), " entries for ", stages, " stages"));
            }
          };
          check("num_layers", p.num_layers);
          check("num_heads", p.num_heads);
          check("patch_sizes", p.patch_sizes);
          check("strides", p.strides);
          check("sr_ratios", p.sr_ratios);
          for (const int64_t i : p.out_indices) {
            if (i >= p.num_stages) {
              problems.error("out_indices", text("there is no stage ", i, " among ", stages));
            }
          }
        });
  }

  explicit MixVisionTransformer(const Params& p)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), out_indices_(p.out_indices) {
    int64_t total = 0;
    for (const int64_t n : p.num_layers) total += n;
    const auto rates = drop_path_rates(p.drop_path_rate, total);
    auto layers = register_module("layers", std::make_shared<ListOf<BaseModule>>());
    size_t block = 0;
    int64_t in_channels = p.in_channels;
    int64_t stride = 1;
    for (size_t i = 0; i < p.num_layers.size(); ++i) {
      const int64_t dims = p.embed_dims * p.num_heads[i];
      auto stage = layers->push_back(std::make_shared<ListOf<BaseModule>>());
      Stage parts;
      parts.least_side = p.sr_ratios[i];
      parts.patch_embed = stage->register_module(
          "0",
          std::make_shared<PatchEmbed>(PatchEmbedOptions{.in_channels = in_channels,
                                                         .embed_dims = dims,
                                                         .kernel_size = p.patch_sizes[i],
                                                         .stride = p.strides[i],
                                                         .padding = Size2(p.patch_sizes[i] / 2),
                                                         .norm_cfg = p.norm_cfg}));
      parts.blocks = stage->register_module("1", std::make_shared<ListOf<MitEncoderLayer>>());
      for (int64_t k = 0; k < p.num_layers[i]; ++k) {
        parts.blocks->push_back(std::make_shared<MitEncoderLayer>(p, i, rates[block++]));
      }
      parts.norm = stage->register_module("2", p.norm_cfg.build(dims));
      in_channels = dims;
      stride *= p.strides[i];
      if (gives_stage(out_indices_, i)) features_.push_back({dims, stride});
      stages_.push_back(std::move(parts));
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    torch::Tensor x = images;
    for (size_t i = 0; i < stages_.size(); ++i) {
      auto& stage = stages_[i];
      auto [tokens, size] = stage.patch_embed->forward(x);
      check_reducible("MixVisionTransformer", map_size(images), i, size, stage.least_side);
      for (const auto& block : *stage.blocks) tokens = block->forward(tokens, size);
      x = nlc_to_nchw(stage.norm->forward(tokens), size);
      if (gives_stage(out_indices_, i)) out.push_back(x);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < stages_.size(); ++i) {
      stages.push_back({.embedding = {text("layers.", i, ".0.")},
                        .blocks = text("layers.", i, ".1."),
                        .num_blocks = static_cast<int64_t>(stages_[i].blocks->size()),
                        .after = {text("layers.", i, ".2.")}});
    }
    return LayerOrder(std::move(stages));
  }

  void init_weights() override {
    if (init_cfg_) return Backbone::init_weights();
    efficient_transformer_init(*this);
  }

 private:
  struct Stage {
    std::shared_ptr<PatchEmbed> patch_embed;
    std::shared_ptr<ListOf<MitEncoderLayer>> blocks;
    std::shared_ptr<Norm> norm;
    int64_t least_side = 1;  ///< of the map, for the convolution that reduces it
  };

  std::vector<int64_t> out_indices_;
  std::vector<Stage> stages_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, MixVisionTransformer);

}  // namespace seg
