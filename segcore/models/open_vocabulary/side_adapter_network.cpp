#include "segcore/models/open_vocabulary/side_adapter_network.hpp"

#include <algorithm>

#include "segcore/models/blocks/position_embedding.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/layer_norm2d.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<SideEncoderCfg> SideEncoderCfg::schema() {
  using P = SideEncoderCfg;
  return Schema<P>("The transformer over queries and patches.")
      .required("num_encode_layer", &P::num_encode_layer, "layers", at_least(1))
      .required("num_heads", &P::num_heads, "attention heads", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over embed_dims",
                at_least(1));
}

Schema<SideDecoderCfg> SideDecoderCfg::schema() {
  using P = SideDecoderCfg;
  return Schema<P>("Makes masks, and biases of CLIP's attention, from queries and patches.")
      .required("num_heads", &P::num_heads,
                "attention heads with a bias of their own: those of CLIP, or 1", at_least(1))
      .required("num_layers", &P::num_layers,
                "layers of CLIP with a bias of their own: all that recognise masks, or 1",
                at_least(1))
      .optional("embed_channels", &P::embed_channels, "width in which queries meet pixels",
                at_least(1))
      .optional("mlp_channels", &P::mlp_channels, "width of the hidden layers", at_least(1))
      .optional("num_mlp", &P::num_mlp, "layers of each perceptron", at_least(1))
      .optional("rescale", &P::rescale, "learn a factor and an offset of the biases");
}

Schema<SideAdapterCfg> SideAdapterCfg::schema() {
  using P = SideAdapterCfg;
  return Schema<P>("The network that proposes masks.")
      .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
      .optional("clip_channels", &P::clip_channels, "width of the image encoder's maps",
                at_least(1))
      .optional("embed_dims", &P::embed_dims, "width of tokens", at_least(1))
      .optional("patch_size", &P::patch_size, "side of a patch", at_least(1))
      .optional("patch_bias", &P::patch_bias, "a bias in the patch embedding")
      .optional("num_queries", &P::num_queries, "masks proposed", at_least(1))
      .optional("fusion_index", &P::fusion_index,
                "layers after which a map of the image encoder is added; 0: before the first",
                at_least(0))
      .required("cfg_encoder", &P::cfg_encoder, "the transformer")
      .required("cfg_decoder", &P::cfg_decoder, "what makes masks and biases")
      .optional("norm_cfg", &P::norm_cfg, "norms of the transformer")
      .validate([](const P& p, Problems& problems) {
        if (p.cfg_encoder.num_heads > 0 && p.embed_dims % p.cfg_encoder.num_heads != 0) {
          problems.error("cfg_encoder.num_heads",
                         text("does not divide embed_dims ", p.embed_dims));
        }
        if (p.fusion_index.empty()) problems.error("fusion_index", "must name a layer");
        if (!std::ranges::is_sorted(p.fusion_index)) {
          problems.error("fusion_index", "must rise: maps are added in this order");
        }
        if (!p.fusion_index.empty() &&
            p.fusion_index.back() >= static_cast<int64_t>(p.fusion_index.size())) {
          problems.warn("fusion_index",
                        text("as in MMSegmentation, no map is added after layer ",
                             p.fusion_index.size() - 1, ", the number of maps less one"));
        }
      });
}

namespace {

/// The side of images that position embeddings are made for, as in mmseg.
constexpr int64_t kSideOfImages = 640;
constexpr double kClipNormEps = 1e-6;

/// Layers with ReLU between them: children `layers.0`, `layers.1`, ...
class Perceptron final : public Layer {
 public:
  /// \param over_maps  1x1 convolutions over [N, C, h, w], else over tokens.
  Perceptron(int64_t in, int64_t hidden, int64_t out, int64_t count, bool over_maps) {
    layers_ = register_module("layers", std::make_shared<ListOf<Layer>>());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from = i == 0 ? in : hidden, to = i + 1 == count ? out : hidden;
      if (over_maps) {
        layers_->push_back(
            std::make_shared<Conv2d>(ConvOptions{.in_channels = from, .out_channels = to}));
      } else {
        layers_->push_back(std::make_shared<Linear>(from, to));
      }
    }
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    auto out = x;
    for (size_t i = 0; i < layers_->size(); ++i) {
      out = (*layers_)[i].forward(i == 0 ? out : out.relu());
    }
    return out;
  }

 private:
  std::shared_ptr<ListOf<Layer>> layers_;
};

}  // namespace

/// Children `query_mlp`, `pix_mlp`, `attn_mlp`, `bias_scaling`.
class SideMaskDecoder final : public BaseModule {
 public:
  SideMaskDecoder(int64_t width, const SideDecoderCfg& cfg)
      : heads_(cfg.num_heads), layers_(cfg.num_layers) {
    const auto perceptron = [&](const char* name, int64_t out, bool over_maps) {
      return register_module(
          name, std::make_shared<Perceptron>(width, cfg.mlp_channels, out, cfg.num_mlp, over_maps));
    };
    query_mlp_ = perceptron("query_mlp", cfg.embed_channels, false);
    pix_mlp_ = perceptron("pix_mlp", cfg.embed_channels, true);
    attn_mlp_ = perceptron("attn_mlp", cfg.embed_channels * heads_ * layers_, true);
    if (cfg.rescale) {
      bias_scaling_ = register_module("bias_scaling", std::make_shared<Linear>(1, 1));
    }
  }

  /// \param queries  [N, Q, C]
  /// \param map  [N, C, h, w]
  MaskProposals forward(const torch::Tensor& queries, const torch::Tensor& map) {
    const auto query = query_mlp_->forward(queries);
    const auto pixels = pix_mlp_->forward(map);
    const int64_t h = map.size(2), w = map.size(3);
    const auto keys = attn_mlp_->forward(map).view({map.size(0), layers_, heads_, -1, h, w});
    auto biases = at::einsum("bqc,blnchw->blnqhw", {query, keys});
    if (bias_scaling_) biases = bias_scaling_->forward(biases.unsqueeze(-1)).squeeze(-1);
    return {at::einsum("bqc,bchw->bqhw", {query, pixels}), biases.unbind(1)};
  }

 private:
  int64_t heads_, layers_;
  std::shared_ptr<Perceptron> query_mlp_, pix_mlp_, attn_mlp_;
  std::shared_ptr<Linear> bias_scaling_;  ///< null: none
};

SideAdapterNetwork::SideAdapterNetwork(const SideAdapterCfg& cfg) : cfg_(cfg) {
  patch_embed_ = register_module(
      "patch_embed", std::make_shared<PatchEmbed>(PatchEmbedOptions{.in_channels = cfg.in_channels,
                                                                    .embed_dims = cfg.embed_dims,
                                                                    .kernel_size = cfg.patch_size,
                                                                    .stride = cfg.patch_size,
                                                                    .padding = Size2(0),
                                                                    .bias = cfg.patch_bias}));
  grid_ = patch_embed_->output_size(kSideOfImages);
  const auto parameter = [&](const char* name, int64_t count) {
    return register_parameter(name, torch::zeros({1, count, cfg.embed_dims}));
  };
  pos_embed_ = parameter("pos_embed", grid_.h * grid_.w);
  query_pos_embed_ = parameter("query_pos_embed", cfg.num_queries);
  query_embed_ = parameter("query_embed", cfg.num_queries);
  encode_layers_ = register_module(
      "encode_layers",
      vit_blocks(cfg.cfg_encoder.num_encode_layer,
                 {.embed_dims = cfg.embed_dims,
                  .num_heads = cfg.cfg_encoder.num_heads,
                  .feedforward_channels = cfg.cfg_encoder.mlp_ratio * cfg.embed_dims,
                  .norm_cfg = cfg.norm_cfg}));
  conv_clips_ = register_module("conv_clips", std::make_shared<ListOf<Sequential>>());
  for (size_t i = 0; i < cfg.fusion_index.size(); ++i) {
    conv_clips_->push_back(std::make_shared<Sequential>(Sequential{
        std::make_shared<LayerNorm2d>(LayerNorm2dParams{.eps = kClipNormEps}, cfg.clip_channels),
        std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = cfg.clip_channels,
                                                       .out_channels = cfg.embed_dims,
                                                       .act_cfg = std::nullopt})}));
  }
  mask_decoder_ = register_module(
      "mask_decoder", std::make_shared<SideMaskDecoder>(cfg.embed_dims, cfg.cfg_decoder));
}

void SideAdapterNetwork::init_weights() {
  constexpr double kStd = 0.02;
  trunc_normal_(pos_embed_, 0, kStd);
  const torch::NoGradGuard no_grad;
  query_embed_.normal_(0, kStd);
  query_pos_embed_.normal_(0, kStd);
  for (const auto& convolution : *conv_clips_) {
    caffe2_xavier_init(*static_cast<ConvModule&>(*(*convolution)[1]).conv());
  }
}

torch::Tensor SideAdapterNetwork::fuse(size_t index, const torch::Tensor& tokens,
                                       const torch::Tensor& clip_map, Size2 size) {
  const auto fitted = resize((*conv_clips_)[index].forward(clip_map.contiguous()), size);
  const auto parts = tokens.split_with_sizes({cfg_.num_queries, size.h * size.w}, 1);
  return at::cat({parts[0], parts[1] + nchw_to_nlc(fitted)}, 1);
}

std::vector<MaskProposals> SideAdapterNetwork::forward(const torch::Tensor& images,
                                                       const std::vector<torch::Tensor>& clip_maps,
                                                       const std::vector<int64_t>& supervised) {
  auto [patches, size] = patch_embed_->forward(images);
  const int64_t count = size.h * size.w;
  const auto positions = at::cat(
      {query_pos_embed_,
       count == pos_embed_.size(1) ? pos_embed_ : resized_grid(pos_embed_, grid_, size, "bicubic")},
      1);
  auto x = at::cat({query_embed_.expand({patches.size(0), -1, -1}), patches}, 1) + positions;
  size_t fused = 0;
  if (cfg_.fusion_index[0] == 0) x = fuse(fused++, x, clip_maps.at(0), size);
  std::vector<MaskProposals> out;
  const auto layers = static_cast<int64_t>(encode_layers_->size());
  const size_t maps = cfg_.fusion_index.size();
  for (int64_t i = 1; i <= layers; ++i) {
    x = (*encode_layers_)[static_cast<size_t>(i - 1)].forward(x);
    if (fused < maps && i < static_cast<int64_t>(maps) && cfg_.fusion_index[fused] == i) {
      x = fuse(fused, x, clip_maps.at(fused), size);
      ++fused;
    }
    if (i == layers || std::ranges::find(supervised, i) != supervised.end()) {
      const auto parts = x.split_with_sizes({cfg_.num_queries, count}, 1);
      out.push_back(mask_decoder_->forward(parts[0], nlc_to_nchw(parts[1], size)));
    }
    if (i < layers) x = x + positions;
  }
  return out;
}

}  // namespace seg
