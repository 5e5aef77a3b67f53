#include <torch/nn/modules/embedding.h>

#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MSDeformAttnPixelDecoderParams {
  std::vector<int64_t> strides{4, 8, 16, 32};
  int64_t num_outs = 3;
  NormCfg norm_cfg = norm_cfg_of("{type: GN, num_groups: 32}");
  ActCfg act_cfg = relu_cfg();
  DetrEncoderCfg<DeformableEncoderLayerCfg> encoder;
  SinePositionalEncoding positional_encoding{.num_feats = 128, .normalize = true};
};

class MSDeformAttnPixelDecoder final : public MaskPixelDecoder {
 public:
  using Params = MSDeformAttnPixelDecoderParams;
  static Schema<Params> schema() {
    return Schema<Params>("Deformable attention among the coarse maps, then a feature pyramid.")
        .source("Mask2Former, Cheng et al. 2021, arXiv:2112.01527")
        .optional("strides", &Params::strides, "stride of each map", at_least(1))
        .optional("num_outs", &Params::num_outs, "maps that queries attend to", at_least(1))
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms; null: none")
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .required("encoder", &Params::encoder, "the transformer")
        .optional("positional_encoding", &Params::positional_encoding, "encoding of positions")
        .accepted("init_cfg",
                  "has no effect, as in MMDetection: weights are filled as in the paper")
        .accepted("in_channels", "set by the head")
        .accepted("feat_channels", "set by the head")
        .accepted("out_channels", "set by the head");
  }
  MSDeformAttnPixelDecoder(const Params& p, const PixelDecoderInputs& in)
      : positions_(p.positional_encoding), num_cp_(p.encoder.num_cp) {
    const auto attention = p.encoder.layer().self_attn_cfg;
    const size_t maps = in.features.size();
    levels_ = static_cast<size_t>(attention.num_levels);
    if (levels_ > maps) {
      throw OptionError("encoder", text("num_levels is ", levels_, " of ", maps, " maps"));
    }
    if (attention.embed_dims != in.feat_channels) {
      throw OptionError("encoder", text("embed_dims is ", attention.embed_dims,
                                        ", but feat_channels of the head ", in.feat_channels));
    }
    outs_ = static_cast<size_t>(p.num_outs);
    if (outs_ > maps) throw OptionError("num_outs", text("is ", outs_, " of ", maps, " maps"));
    input_convs_ = register_module("input_convs", std::make_shared<ListOf<ConvModule>>());
    for (size_t i = 0; i < levels_; ++i) {
      input_convs_->push_back(pixel_conv(in.features[maps - 1 - i].channels, in.feat_channels, 1,
                                         p.norm_cfg, {}, /*bias=*/true));
    }
    encoder_ = std::make_shared<torch::nn::Module>("encoder");
    layers_ =
        encoder_->register_module("layers", std::make_shared<ListOf<DeformableEncoderLayer>>());
    for (int64_t i = 0; i < p.encoder.num_layers; ++i) {
      layers_->push_back(std::make_shared<DeformableEncoderLayer>(p.encoder.layer()));
    }
    register_module("encoder", encoder_);
    level_encoding_ =
        register_module("level_encoding", std::make_shared<torch::nn::EmbeddingImpl>(
                                              static_cast<int64_t>(levels_), in.feat_channels));
    lateral_convs_ = register_module("lateral_convs", std::make_shared<ListOf<ConvModule>>());
    output_convs_ = register_module("output_convs", std::make_shared<ListOf<ConvModule>>());
    for (size_t i = maps - levels_; i-- > 0;) {
      lateral_convs_->push_back(
          pixel_conv(in.features[i].channels, in.feat_channels, 1, p.norm_cfg, {}));
      output_convs_->push_back(
          pixel_conv(in.feat_channels, in.feat_channels, 3, p.norm_cfg, p.act_cfg));
    }
    mask_feature_ = register_module(
        "mask_feature", std::make_shared<Conv2d>(ConvOptions{.in_channels = in.feat_channels,
                                                             .out_channels = in.out_channels}));
  }

  /// Attends to padding, too, as the original.
  DecodedPixels forward(const std::vector<torch::Tensor>& features, const torch::Tensor&) override {
    std::vector<torch::Tensor> inputs, positions, references;
    std::vector<Size2> sizes;
    for (size_t i = 0; i < levels_; ++i) {
      const auto map = (*input_convs_)[i].forward(features[features.size() - 1 - i]);
      const auto [h, w] = sizes.emplace_back(map_size(map));
      inputs.push_back(map.flatten(2).transpose(1, 2));
      positions.push_back(positions_(map) + level_encoding_->weight[static_cast<int64_t>(i)]);
      const auto centre = [&](int64_t side) {
        return (at::arange(side, map.options().dtype(wide_type(map))) + 0.5) /
               static_cast<double>(side);
      };
      references.push_back(
          at::stack(
              {centre(w).view({1, -1}).expand({h, w}), centre(h).view({-1, 1}).expand({h, w})}, 2)
              .reshape({h * w, 2}));
    }
    auto x = at::cat(inputs, 1);  // [N, sum of h*w, C]
    const auto position = at::cat(positions, 1), reference = at::cat(references, 0);
    int64_t left = num_cp_;
    for (const auto& layer : *layers_) {
      const auto run = [layer, reference, sizes](at::TensorList in) {
        return layer->forward(in[0], in[1], reference, sizes);
      };
      x = run_block_of(left-- > 0, run, {x, position});
    }
    std::vector<torch::Tensor> out;
    int64_t first = 0;
    for (const auto& [h, w] : sizes) {
      out.push_back(x.narrow(1, first, h * w).transpose(1, 2).reshape({x.size(0), -1, h, w}));
      first += h * w;
    }
    // The pairs of convolutions are listed coarsest first and taken by the number of the map, as
    // in mmdet; that matters only for more than one of them.
    for (size_t i = features.size() - levels_; i-- > 0;) {
      const auto fine = (*lateral_convs_)[i].forward(features[i]);
      out.push_back((*output_convs_)[i].forward(fine + resize(out.back(), map_size(fine))));
    }
    DecodedPixels decoded;
    decoded.mask_feature = mask_feature_->forward(out.back());
    decoded.memories.assign(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(outs_));
    return decoded;
  }

  void init_weights() override {
    for (const auto& conv : *input_convs_) {
      xavier_init(*conv->conv(), 1, 0, /*uniform_distribution=*/true);
    }
    for (size_t i = 0; i < lateral_convs_->size(); ++i) {
      caffe2_xavier_init(*(*lateral_convs_)[i].conv());
      caffe2_xavier_init(*(*output_convs_)[i].conv());
    }
    caffe2_xavier_init(*mask_feature_);
    normal_init(*level_encoding_, 0, 1);
    xavier_matrices_init(*encoder_, /*uniform=*/false);
    for_each_module(*encoder_, [](torch::nn::Module& m) {
      if (auto* attention = dynamic_cast<MultiScaleDeformableAttention*>(&m)) {
        attention->init_weights();
      }
    });
  }

 private:
  SinePositionalEncoding positions_;
  int64_t num_cp_;
  size_t levels_ = 0, outs_ = 0;
  std::shared_ptr<ListOf<ConvModule>> input_convs_, lateral_convs_, output_convs_;
  std::shared_ptr<torch::nn::Module> encoder_;
  std::shared_ptr<ListOf<DeformableEncoderLayer>> layers_;
  std::shared_ptr<torch::nn::EmbeddingImpl> level_encoding_;
  std::shared_ptr<Conv2d> mask_feature_;
};

SEG_REGISTER(MaskPixelDecoder, MSDeformAttnPixelDecoder);

}  // namespace seg
