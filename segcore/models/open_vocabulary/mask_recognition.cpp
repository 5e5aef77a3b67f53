#include "segcore/models/open_vocabulary/mask_recognition.hpp"
#include "segcore/models/nn/normalize.hpp"

#include "segcore/models/nn/freeze.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<MaskRecognitionCfg> MaskRecognitionCfg::schema() {
  using P = MaskRecognitionCfg;
  return Schema<P>("The layers of CLIP that recognise masks.")
      .optional("sos_token_format", &P::sos_token_format,
                "what the tokens of masks begin with: the class token (the other forms of "
                "MMSegmentation fail there)",
                one_of({"cls_token"}))
      .optional("sos_token_num", &P::sos_token_num, "masks; san_cfg.num_queries", at_least(1))
      .optional("num_layers", &P::num_layers, "layers", at_least(1))
      .optional("cross_attn", &P::cross_attn,
                "the tokens of masks attend to the patches and themselves alone")
      .optional("embed_dims", &P::embed_dims, "width of the image encoder's tokens", at_least(1))
      .optional("num_heads", &P::num_heads, "attention heads", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over embed_dims",
                at_least(1))
      .optional("qkv_bias", &P::qkv_bias, "biases in attention")
      .optional("out_dims", &P::out_dims, "width of the text encoder's embeddings", at_least(1))
      .optional("final_norm", &P::final_norm, "scale the results to length one")
      .optional("act_cfg", &P::act_cfg, "activation of the feed-forward blocks")
      .optional("norm_cfg", &P::norm_cfg, "the last norm")
      .optional("frozen_exclude", &P::frozen_exclude,
                "train only parameters whose name has one of these in it; 'all' for all")
      .accepted("num_fcs", "feed-forward blocks have two layers, as in MMSegmentation")
      .validate([](const P& p, Problems& problems) {
        if (p.embed_dims % p.num_heads != 0) {
          problems.error("num_heads", text("does not divide embed_dims ", p.embed_dims));
        }
      });
}

MaskRecognition::MaskRecognition(const MaskRecognitionCfg& cfg, const InitCfg& init_cfg)
    : BaseModule(init_cfg), cfg_(cfg) {
  layers_ = register_module("layers", std::make_shared<ListOf<PreNormLayer>>());
  for (int64_t i = 0; i < cfg.num_layers; ++i) {
    layers_->push_back(std::make_shared<PreNormLayer>(
        PreNormLayerOptions{.embed_dims = cfg.embed_dims,
                            .num_heads = cfg.num_heads,
                            .feedforward_channels = cfg.mlp_ratio * cfg.embed_dims,
                            .qkv_bias = cfg.qkv_bias,
                            .act_cfg = cfg.act_cfg}));
  }
  ln_post_ = register_module("ln_post", cfg.norm_cfg.build(cfg.embed_dims));
  proj_ = register_module("proj", std::make_shared<Linear>(cfg.embed_dims, cfg.out_dims,
                                                           /*bias=*/false));
  freeze_all_but(*this, cfg.frozen_exclude);
}

torch::Tensor MaskRecognition::fitted_bias(const torch::Tensor& bias,
                                           const torch::Tensor& map) const {
  const auto pooled =
      std::get<0>(at::adaptive_max_pool2d(bias.flatten(1, 2), {map.size(2), map.size(3)}));
  return pooled.view({bias.size(0), bias.size(1), bias.size(2), -1})
      .expand({-1, cfg_.num_heads, -1, -1});
}

/// Of the tokens of masks, the class token and the patches, in this order: the first see themselves
/// and patches, the others see all but those of masks.
torch::Tensor MaskRecognition::attention_mask(const torch::Tensor& bias) const {
  constexpr double kUnseen = -100;
  const int64_t masks = bias.size(2), patches = bias.size(3), all = masks + 1 + patches;
  auto mask = at::zeros({bias.size(0), bias.size(1), all, all}, bias.options());
  mask.narrow(3, 0, masks).fill_(kUnseen);
  mask.narrow(2, 0, masks).narrow(3, 0, masks).diagonal(0, 2, 3).zero_();
  mask.narrow(2, 0, masks).select(3, masks).fill_(kUnseen);
  mask.narrow(2, 0, masks).narrow(3, masks + 1, patches).copy_(bias);
  return mask;
}

torch::Tensor MaskRecognition::forward(const std::vector<torch::Tensor>& biases,
                                       const torch::Tensor& map, const torch::Tensor& class_token) {
  const auto cls = class_token.unsqueeze(1);
  auto tokens = at::cat({cls, map.flatten(2).transpose(1, 2)}, 1);  // [N, 1 + h * w, C]
  auto masks = cls.expand({-1, cfg_.sos_token_num, -1});
  std::vector<torch::Tensor> fitted;
  for (const auto& bias : biases) fitted.push_back(fitted_bias(bias, map));
  const auto bias_of = [&](size_t i) { return fitted.size() == 1 ? fitted[0] : fitted.at(i); };
  const size_t count = layers_->size();
  if (cfg_.cross_attn) {
    for (size_t i = 0; i < count; ++i) {
      auto& layer = (*layers_)[i];
      masks = layer.attend(masks, tokens.narrow(1, 1, tokens.size(1) - 1), bias_of(i));
      if (i + 1 < count) tokens = layer.forward(tokens);
    }
  } else {
    auto all = at::cat({masks, tokens}, 1);
    torch::Tensor mask;
    for (size_t i = 0; i < count; ++i) {
      if (i == 0 || fitted.size() > 1) mask = attention_mask(bias_of(i));
      all = (*layers_)[i].forward(all, mask);
    }
    masks = all.narrow(1, 0, cfg_.sos_token_num);
  }
  const auto out = proj_->forward(ln_post_->forward(masks));
  return cfg_.final_norm ? normalize(out, -1) : out;
}

}  // namespace seg
