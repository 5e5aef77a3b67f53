#include <algorithm>
#include <cmath>

#include "registry/error.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/plain_transformer.hpp"
#include "segcore/models/blocks/beit_attention.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/position_embedding.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// The options that BEiT and MAE share.
struct MAEParams : PlainTransformerParams {
  double init_values = 0.1;

  static Schema<MAEParams> schema();
};

struct BEiTParams : MAEParams {
  bool qv_bias = true;
};

namespace {

/// What distinguishes the attention of the two.
struct BEiTAttentionKind {
  BEiTAttention::Bias bias = BEiTAttention::Bias::kNone;
  bool of_mae = false;  ///< an init_cfg leaves tables at zero and starts deep layers smaller
};

/// Attention and a feed-forward block, each after a norm and scaled by channel: children `ln1`,
/// `attn`, `ln2`, `ffn`, parameters `gamma_1`, `gamma_2`.
class BEiTBlock final : public BaseModule {
 public:
  BEiTBlock(const MAEParams& p, BEiTAttentionKind kind, double drop_path) {
    const auto scale = [&](const char* name) {
      return register_parameter(name, torch::full({p.embed_dims}, p.init_values));
    };
    gamma1_ = scale("gamma_1");
    gamma2_ = scale("gamma_2");
    norm1_ = register_norm(*this, p.norm_cfg, p.embed_dims, "1");
    attn_ = register_module("attn", std::make_shared<BEiTAttention>(
                                        BEiTAttentionOptions{.dims = p.embed_dims,
                                                             .heads = p.num_heads,
                                                             .grid = p.grid(),
                                                             .bias = kind.bias,
                                                             .attn_drop = p.attn_drop_rate,
                                                             .table_from_zero = kind.of_mae}));
    norm2_ = register_norm(*this, p.norm_cfg, p.embed_dims, "2");
    ffn_ = register_module(
        "ffn", std::make_shared<FFN>(FFNOptions{.embed_dims = p.embed_dims,
                                                .feedforward_channels = p.mlp_ratio * p.embed_dims,
                                                .num_fcs = p.num_fcs,
                                                .act_cfg = p.act_cfg,
                                                .add_identity = false}));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = x + drop_path_->forward(gamma1_ * attn_->forward(norm1_->forward(x)));
    return y + drop_path_->forward(gamma2_ * ffn_->forward(norm2_->forward(y)));
  }

 private:
  torch::Tensor gamma1_, gamma2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<BEiTAttention> attn_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<DropPath> drop_path_;
};

}  // namespace

Schema<MAEParams> MAEParams::schema() {
  using P = MAEParams;
  return Schema<P>("")
      .optional("img_size", &P::img_size,
                "size of the images, which must have it: predict by a sliding window",
                sides_at_least(1))
      .include(PlainTransformerParams::schema())
      .optional("init_values", &P::init_values, "first value of the scales of blocks")
      .validate([](const P& p, Problems& problems) {
        if (p.img_size.h < p.patch_size || p.img_size.w < p.patch_size) {
          problems.error("img_size", text("must be at least patch_size, ", p.patch_size));
        }
      });
}

/// What BEiT and MAE have in common: a plain transformer over patches of images of one size.
class BEiTBase : public Backbone, public AdaptsPretrained {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto [x, size] = patch_embed_->forward(images);
    if (size != grid_) {
      throw DataError(text("images of ", images.size(2), "x", images.size(3), " do not fit this ",
                           type_, ", which was built for ", params_.img_size.h, "x",
                           params_.img_size.w,
                           ". Train on crops of that size and predict by a sliding window, "
                           "test_cfg: {mode: slide, crop_size: [",
                           params_.img_size.h, ", ", params_.img_size.w,
                           "], stride: ...}, or set img_size of the backbone"));
    }
    x = at::cat({cls_token_.expand({x.size(0), -1, -1}), x}, 1);  // [N, 1 + h * w, C]
    if (pos_embed_.defined()) x = x + pos_embed_;
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < layers_->size(); ++i) {
      x = forward_block((*layers_)[i], x);
      if (final_norm_ && i + 1 == layers_->size()) x = final_norm_->forward(x);
      if (gives_stage(out_indices_, i)) {
        out.push_back(nlc_to_nchw(x.narrow(1, 1, x.size(1) - 1), size).contiguous());
      }
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    for (size_t i = 0; i < layers_->size(); ++i) {
      if (gives_stage(out_indices_, i)) out.push_back({params_.embed_dims, params_.patch_size});
    }
    return out;
  }

  LayerOrder layer_order() const override {
    return LayerOrder({StageNames{.embedding = {"cls_token", "pos_embed", "patch_embed."},
                                  .blocks = "layers.",
                                  .num_blocks = params_.num_layers}});
  }

  void train(bool on = true) override {
    Backbone::train(on);
    if (on && params_.norm_eval) freeze_norms(*this);
  }

  void init_weights() override {
    const bool from_file = init_cfg_ && !pretrained_rules().empty();
    torch::NoGradGuard no_grad;
    for (const auto& item : named_modules()) {
      auto& m = *item.value();
      if (auto* linear = dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
        if (!init_cfg_ && linear->bias.defined() && item.key().find("ffn") != std::string::npos) {
          linear->bias.normal_(0, 1e-6);
        }
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      } else if (!init_cfg_ && dynamic_cast<Conv2d*>(&m)) {
        kaiming_init(m, {.fan_out = false});
      }
    }
    if (!init_cfg_) {
      trunc_normal_(cls_token_, 0, 0.02);
      return;
    }
    for (size_t i = 0; of_mae_ && i < layers_->size(); ++i) {
      auto weights = (*layers_)[i].named_parameters();
      for (const char* name : {"attn.proj.weight", "ffn.layers.1.weight"}) {
        weights[name].div_(std::sqrt(2.0 * static_cast<double>(i + 1)));
      }
    }
    // What a file lacks keeps these values; other rules hold for the children as well.
    if (from_file) {
      apply_init_cfg();
    } else {
      Backbone::init_weights();
    }
  }

  void adapt_pretrained(Value& state) const override {
    for (const auto& item : named_parameters()) {
      const Value* found = state.find(item.key());
      if (!found || !found->is_tensor()) continue;
      torch::Tensor fitted;
      if (item.key().ends_with("relative_position_bias_table")) {
        fitted = beit_resized_table(found->as_tensor(), item.value(), grid_);
      } else if (item.key() == "pos_embed") {
        fitted = fitted_position_embedding(found->as_tensor(), item.value(), grid_, "bicubic");
      }
      if (fitted.defined()) state.set(item.key(), fitted);
    }
    // Which place of the table belongs to which pair depends only on the grid.
    for (const auto& item : named_buffers()) {
      if (state.find(item.key())) state.set(item.key(), item.value());
    }
  }

 protected:
  BEiTBase(const MAEParams& p, BEiTAttentionKind kind, bool with_positions, const char* type)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)),
        params_(p),
        type_(type),
        of_mae_(kind.of_mae),
        grid_(p.grid()) {
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, p.embed_dims}));
    if (with_positions) {
      pos_embed_ =
          register_parameter("pos_embed", torch::zeros({1, grid_.h * grid_.w + 1, p.embed_dims}));
    }
    patch_embed_ = register_module(
        "patch_embed", std::make_shared<PatchEmbed>(PatchEmbedOptions{
                           .in_channels = p.in_channels,
                           .embed_dims = p.embed_dims,
                           .kernel_size = p.patch_size,
                           .stride = p.patch_size,
                           .padding = Size2(0),
                           .norm_cfg = p.patch_norm ? NormCfg(p.norm_cfg) : NormCfg()}));
    layers_ = register_module("layers", std::make_shared<ListOf<BEiTBlock>>());
    for (const double rate : drop_path_rates(p.drop_path_rate, p.num_layers)) {
      layers_->push_back(std::make_shared<BEiTBlock>(p, kind, rate));
    }
    if (p.final_norm) final_norm_ = register_norm(*this, p.norm_cfg, p.embed_dims, "1");
    out_indices_ = p.out_blocks();
  }

 private:
  MAEParams params_;
  const char* type_;
  bool of_mae_;
  Size2 grid_;
  std::vector<int64_t> out_indices_;
  torch::Tensor cls_token_, pos_embed_;  ///< the second undefined in BEiT
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::shared_ptr<ListOf<BEiTBlock>> layers_;
  std::shared_ptr<Norm> final_norm_;  ///< may be null
};

/// A plain transformer whose attention learns a bias for each relative position.
///
/// BEiT, Bao et al. 2021, arXiv:2106.08254.
class BEiT final : public BEiTBase {
 public:
  using Params = BEiTParams;
  static Schema<Params> schema() {
    return Schema<Params>("A plain transformer with learned biases of relative positions.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254")
        .include(MAEParams::schema())
        .optional("qv_bias", &Params::qv_bias, "biases of query and value");
  }
  explicit BEiT(const Params& p)
      : BEiTBase(
            p, {.bias = p.qv_bias ? BEiTAttention::Bias::kQueryValue : BEiTAttention::Bias::kNone},
            /*with_positions=*/false, "BEiT") {}
};

SEG_REGISTER(Backbone, BEiT);

/// BEiT with position embeddings and biases of query, key and value.
///
/// Masked autoencoders, He et al. 2021, arXiv:2111.06377.
class MAE final : public BEiTBase {
 public:
  using Params = MAEParams;
  static Schema<Params> schema() {
    return Schema<Params>("A plain transformer, trained as a masked autoencoder.")
        .source("Masked autoencoders, He et al. 2021, arXiv:2111.06377")
        .include(MAEParams::schema());
  }
  explicit MAE(const Params& p)
      : BEiTBase(p, {.bias = BEiTAttention::Bias::kAll, .of_mae = true},
                 /*with_positions=*/true, "MAE") {}
};

SEG_REGISTER(Backbone, MAE);

}  // namespace seg
