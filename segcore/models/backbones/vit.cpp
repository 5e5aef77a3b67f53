#include <algorithm>
#include <array>
#include <regex>

#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/plain_transformer.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/position_embedding.hpp"
#include "segcore/models/blocks/vit_block.hpp"
#include "segcore/models/nn/freeze.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct VisionTransformerParams : PlainTransformerParams {
  std::variant<Size2, std::string> patch_pad = std::string("corner");
  bool out_origin = false;
  bool qkv_bias = true;
  double drop_rate = 0;
  bool with_cls_token = true;
  bool output_cls_token = false;
  bool patch_bias = false;
  bool pre_norm = false;
  std::string interpolate_mode = "bicubic";
  bool with_cp = false;
  std::vector<std::string> frozen_exclude{"all"};
};

/// A plain transformer over patches, whose maps all have one size.
///
/// ViT, Dosovitskiy et al. 2021, arXiv:2010.11929; DeiT, Touvron et al. 2021, arXiv:2012.12877.
class VisionTransformer final : public Backbone, public AdaptsPretrained, public ChangesBeforeLoad {
 public:
  using Params = VisionTransformerParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A plain transformer over patches, whose maps all have one size.")
        .source("ViT, Dosovitskiy et al. 2021, arXiv:2010.11929")
        .optional("img_size", &P::img_size,
                  "image size of the position embeddings; they are resized for others")
        .include(PlainTransformerParams::schema())
        .optional("patch_pad", &P::patch_pad,
                  "padding of the patch embedding: pixels, or 'corner' or 'same' as needed")
        .optional("out_origin", &P::out_origin, "also give the tokens before the first block")
        .optional("qkv_bias", &P::qkv_bias, "biases in attention")
        .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
        .optional("with_cls_token", &P::with_cls_token, "let the class token through the blocks")
        .optional("output_cls_token", &P::output_cls_token,
                  "give the class token with each map, [N, embed_dims], to heads that ask for it")
        .optional("patch_bias", &P::patch_bias, "a bias in the patch embedding")
        .optional("pre_norm", &P::pre_norm, "a norm before the first block")
        .optional("interpolate_mode", &P::interpolate_mode, "how position embeddings are resized",
                  one_of({"bicubic", "bilinear", "nearest", "area"}))
        .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
        .optional("frozen_exclude", &P::frozen_exclude,
                  "train only parameters whose name has one of these in it; 'all' for all")
        .validate([](const P& p, Problems& problems) {
          if (p.output_cls_token && !p.with_cls_token) {
            problems.error("output_cls_token", "needs with_cls_token");
          }
          const auto* mode = std::get_if<std::string>(&p.patch_pad);
          if (mode && *mode != "corner" && *mode != "same") {
            problems.error("patch_pad", text("unknown value '", *mode,
                                             "'. Known: corner, same, or "
                                             "a number of pixels"));
          }
        });
  }

  explicit VisionTransformer(const Params& p)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), params_(p), grid_(p.grid()) {
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, p.embed_dims}));
    pos_embed_ =
        register_parameter("pos_embed", torch::zeros({1, grid_.h * grid_.w + 1, p.embed_dims}));
    patch_embed_ = register_module(
        "patch_embed", std::make_shared<PatchEmbed>(PatchEmbedOptions{
                           .in_channels = p.in_channels,
                           .embed_dims = p.embed_dims,
                           .kernel_size = p.patch_size,
                           .stride = p.patch_size,
                           .padding = p.patch_pad,
                           .bias = p.patch_bias,
                           .norm_cfg = p.patch_norm ? NormCfg(p.norm_cfg) : NormCfg()}));
    drop_after_pos_ = register_module("drop_after_pos", std::make_shared<Dropout>(p.drop_rate));
    if (p.pre_norm) pre_norm_ = register_norm(*this, p.norm_cfg, p.embed_dims, "_pre");
    out_indices_ = p.out_blocks();
    ViTBlockOptions block = vit_block_options(p);
    block.with_cp = p.with_cp;
    layers_ = register_module("layers", vit_blocks(p.num_layers, block));
    if (p.final_norm) final_norm_ = register_norm(*this, p.norm_cfg, p.embed_dims, "1");
    const size_t maps = (p.out_origin ? 1 : 0) + out_indices_.size();
    for (size_t i = 0; i < maps; ++i) {
      features_.push_back({p.embed_dims, p.patch_size});
      if (p.output_cls_token) features_.push_back({.channels = p.embed_dims, .stride = 0});
    }
    freeze_all_but(*this, p.frozen_exclude);
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto [x, size] = patch_embed_->forward(images);
    x = at::cat({cls_token_.expand({x.size(0), -1, -1}), x}, 1);  // [N, 1 + h * w, C]
    x = drop_after_pos_->forward(x + position_for(pos_embed_, grid_, size, x.size(1)));
    if (!params_.with_cls_token) x = x.narrow(1, 1, x.size(1) - 1);
    if (pre_norm_) x = pre_norm_->forward(x);
    std::vector<torch::Tensor> out;
    if (params_.out_origin) give(x, size, out);
    for (size_t i = 0; i < layers_->size(); ++i) {
      x = (*layers_)[i].forward(x);
      if (final_norm_ && i + 1 == layers_->size()) x = final_norm_->forward(x);
      if (gives_stage(out_indices_, i)) give(x, size, out);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override {
    StageNames names{.embedding = {"cls_token", "pos_embed", "patch_embed."},
                     .blocks = "layers.",
                     .num_blocks = params_.num_layers};
    if (pre_norm_) names.embedding.push_back(pre_norm_->abbreviation() + "_pre.");
    return LayerOrder({names});
  }

  void train(bool on = true) override {
    Backbone::train(on);
    if (on && params_.norm_eval) freeze_norms(*this);
  }

  void init_weights() override {
    if (init_cfg_) {
      Backbone::init_weights();
      return;
    }
    trunc_normal_(pos_embed_, 0, 0.02);
    trunc_normal_(cls_token_, 0, 0.02);
    torch::NoGradGuard no_grad;
    for (const auto& item : named_modules()) {
      auto& m = *item.value();
      if (auto* linear = dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
        if (linear->bias.defined() && item.key().find("ffn") != std::string::npos) {
          linear->bias.normal_(0, 1e-6);
        }
      } else if (dynamic_cast<Conv2d*>(&m)) {
        kaiming_init(m, {.fan_out = false});
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      }
    }
  }

  /// MMSegmentation up to 0.14 has timm's names.
  void before_load(NamedTensors& weights) override {
    const bool old = std::any_of(weights.begin(), weights.end(), [](const auto& item) {
      return item.first.starts_with("blocks.");
    });
    if (!old) return;
    static const std::array<std::pair<std::regex, const char*>, 8> kRules{{
        {std::regex(R"(^patch_embed\.proj\.)"), "patch_embed.projection."},
        {std::regex(R"(^norm\.)"), "ln1."},
        {std::regex(R"(^blocks\.(\d+)\.norm)"), "layers.$1.ln"},
        {std::regex(R"(^blocks\.)"), "layers."},
        {std::regex(R"(\.mlp\.fc1\.)"), ".ffn.layers.0.0."},
        {std::regex(R"(\.mlp\.fc2\.)"), ".ffn.layers.1."},
        {std::regex(R"(\.attn\.qkv\.)"), ".attn.attn.in_proj_"},
        {std::regex(R"(\.attn\.proj\.)"), ".attn.attn.out_proj."},
    }};
    for (auto& [name, tensor] : weights) {
      for (const auto& [pattern, to] : kRules) name = std::regex_replace(name, pattern, to);
    }
  }

  void adapt_pretrained(Value& state) const override {
    const Value* found = state.find("pos_embed");
    if (!found || !found->is_tensor()) return;
    const auto fitted =
        fitted_position_embedding(found->as_tensor(), pos_embed_, grid_, params_.interpolate_mode);
    if (fitted.defined()) state.set("pos_embed", fitted);
  }

 private:
  torch::Tensor position_for(const torch::Tensor& position, Size2 from, Size2 to,
                             int64_t tokens) const {
    return tokens == position.size(1) ? position : resized(position, from, to);
  }
  /// [1, 1 + h * w, C] for another grid; the class token's stays.
  torch::Tensor resized(const torch::Tensor& position, Size2 from, Size2 to) const {
    const int64_t count = from.h * from.w;
    return at::cat(
        {position.narrow(1, 0, 1), resized_grid(position.narrow(1, position.size(1) - count, count),
                                                from, to, params_.interpolate_mode)},
        1);
  }
  void give(const torch::Tensor& x, Size2 size, std::vector<torch::Tensor>& out) const {
    const auto tokens = params_.with_cls_token ? x.narrow(1, 1, x.size(1) - 1) : x;
    out.push_back(nlc_to_nchw(tokens, size).contiguous());
    if (params_.output_cls_token) out.push_back(x.select(1, 0));
  }

  Params params_;
  Size2 grid_;
  std::vector<int64_t> out_indices_;
  torch::Tensor cls_token_, pos_embed_;
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::shared_ptr<Dropout> drop_after_pos_;
  std::shared_ptr<Norm> pre_norm_, final_norm_;
  std::shared_ptr<ListOf<ViTBlock>> layers_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, VisionTransformer);

}  // namespace seg
