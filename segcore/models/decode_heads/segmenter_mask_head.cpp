#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/vit_block.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/normalize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SegmenterMaskTransformerHeadParams : DecodeHeadParams {
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t embed_dims = 0;
  int64_t mlp_ratio = 4;
  double drop_path_rate = 0.1;
  double drop_rate = 0;
  double attn_drop_rate = 0;
  int64_t num_fcs = 2;
  bool qkv_bias = true;
  double init_std = 0.02;
  SegmenterMaskTransformerHeadParams() {
    act_cfg = act_cfg_of("{type: GELU}");
    norm_cfg = norm_cfg_of("{type: LN}");
  }
};

/// Tokens of classes go through transformer blocks with those of patches; a mask is the product of
/// a class with all patches.
///
/// Segmenter, Strudel et al. 2021, arXiv:2105.05633, section 3.2.
class SegmenterMaskTransformerHead final : public DecodeHead {
 public:
  using Params = SegmenterMaskTransformerHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Tokens of classes, refined together with those of patches, give masks.")
        .source("Segmenter, Strudel et al. 2021, arXiv:2105.05633")
        .include(DecodeHead::base_schema())
        .required("num_layers", &P::num_layers, "transformer blocks", at_least(0))
        .required("num_heads", &P::num_heads, "attention heads", at_least(1))
        .required("embed_dims", &P::embed_dims, "width of tokens", at_least(1))
        .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over embed_dims",
                  at_least(1))
        .optional("drop_path_rate", &P::drop_path_rate, "stochastic depth of the last block",
                  in_range(0, 1))
        .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
        .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                  in_range(0, 1))
        .optional("num_fcs", &P::num_fcs, "layers of a feed-forward block", at_least(2))
        .optional("qkv_bias", &P::qkv_bias, "biases in attention")
        .optional("init_std", &P::init_std, "standard deviation of the first weights", above(0))
        .validate([](const P& p, Problems& problems) {
          if (!p.norm_cfg) problems.error("norm_cfg", "cannot be null");
          if (p.num_heads > 0 && p.embed_dims % p.num_heads != 0) {
            problems.error("num_heads", text("does not divide embed_dims ", p.embed_dims));
          }
        });
  }

  SegmenterMaskTransformerHead(const Params& p, const std::vector<FeatureInfo>& all)
      : DecodeHead(p, all), init_std_(p.init_std) {
    remove_conv_seg();
    layers_ = register_module("layers", vit_blocks(p.num_layers, vit_block_options(p)));
    dec_proj_ = register_module("dec_proj", std::make_shared<Linear>(in_channels(), p.embed_dims));
    cls_emb_ = register_parameter("cls_emb", torch::randn({1, num_classes(), p.embed_dims}));
    patch_proj_ =
        register_module("patch_proj", std::make_shared<Linear>(p.embed_dims, p.embed_dims, false));
    classes_proj_ = register_module("classes_proj",
                                    std::make_shared<Linear>(p.embed_dims, p.embed_dims, false));
    decoder_norm_ = register_module("decoder_norm", p.norm_cfg->build(p.embed_dims));
    mask_norm_ = register_module("mask_norm", p.norm_cfg->build(num_classes()));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto map = select_one(features);
    const int64_t n = map.size(0), h = map.size(2), w = map.size(3);
    auto x = dec_proj_->forward(nchw_to_nlc(map));      // [N, h * w, C]
    x = at::cat({x, cls_emb_.expand({n, -1, -1})}, 1);  // [N, h * w + classes, C]
    for (const auto& layer : *layers_) x = layer->forward(x);
    x = decoder_norm_->forward(x);
    const auto patches = normalize(patch_proj_->forward(x.narrow(1, 0, h * w)), 2);
    const auto classes = normalize(classes_proj_->forward(x.narrow(1, h * w, num_classes())), 2);
    const auto masks = mask_norm_->forward(at::matmul(patches, classes.transpose(1, 2)));
    return masks.transpose(1, 2).reshape({n, -1, h, w});
  }

  void init_weights() override {
    trunc_normal_(cls_emb_, 0, init_std_);
    for_each_module(*this, [this](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, init_std_);
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      }
    });
  }

 private:
  double init_std_;
  torch::Tensor cls_emb_;
  std::shared_ptr<ListOf<ViTBlock>> layers_;
  std::shared_ptr<Linear> dec_proj_, patch_proj_, classes_proj_;
  std::shared_ptr<Norm> decoder_norm_, mask_norm_;
};

SEG_REGISTER(DecodeHead, SegmenterMaskTransformerHead);

}  // namespace seg
