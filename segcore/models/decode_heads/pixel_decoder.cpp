#include "segcore/models/decode_heads/pixel_decoder.hpp"

#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

std::shared_ptr<ConvModule> pixel_conv(int64_t in, int64_t out, int64_t kernel_size,
                                       const NormCfg& norm, const ActCfg& act,
                                       std::optional<bool> bias) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .padding = kernel_size / 2,
                                                        .bias = bias,
                                                        .norm_cfg = norm,
                                                        .act_cfg = act});
}

// --- A feature pyramid --------------------------------------------------------------------------

struct PixelDecoderParams {
  NormCfg norm_cfg = norm_cfg_of("{type: GN, num_groups: 32}");
  ActCfg act_cfg = relu_cfg();
};

class PixelDecoder : public MaskPixelDecoder {
 public:
  using Params = PixelDecoderParams;
  static Schema<Params> options() {
    return Schema<Params>("")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms; null: none")
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .accepted("init_cfg",
                  "has no effect, as in MMDetection: weights are filled as in the paper")
        .accepted("in_channels", "set by the head")
        .accepted("feat_channels", "set by the head")
        .accepted("out_channels", "set by the head");
  }
  static Schema<Params> schema() {
    return Schema<Params>("A feature pyramid for masks.")
        .source("MaskFormer, Cheng et al. 2021, arXiv:2107.06278")
        .include(options());
  }
  PixelDecoder(const Params& p, const PixelDecoderInputs& in) : PixelDecoder(p, in, true) {}

  DecodedPixels forward(const std::vector<torch::Tensor>& features, const torch::Tensor&) override {
    return {fuse(last_feat_conv_->forward(features.back()), features), {features.back()}};
  }
  bool passes_backbone_memory() const override { return true; }

  // Ignores an `init_cfg`, as the originals of all three do.
  void init_weights() override {
    // As the original: the last two maps keep the initialisation of every ConvModule.
    for (size_t i = 0; i + 1 < lateral_convs_->size(); ++i) {
      caffe2_xavier_init(*(*lateral_convs_)[i].conv());
      caffe2_xavier_init(*(*output_convs_)[i].conv());
    }
    caffe2_xavier_init(*mask_feature_);
  }

 protected:
  PixelDecoder(const Params& p, const PixelDecoderInputs& in, bool with_last) {
    lateral_convs_ = register_module("lateral_convs", std::make_shared<ListOf<ConvModule>>());
    output_convs_ = register_module("output_convs", std::make_shared<ListOf<ConvModule>>());
    for (size_t i = 0; i + 1 < in.features.size(); ++i) {
      lateral_convs_->push_back(
          pixel_conv(in.features[i].channels, in.feat_channels, 1, p.norm_cfg, {}));
      output_convs_->push_back(
          pixel_conv(in.feat_channels, in.feat_channels, 3, p.norm_cfg, p.act_cfg));
    }
    if (with_last) {
      last_feat_conv_ = register_module(
          "last_feat_conv",
          pixel_conv(in.features.back().channels, in.feat_channels, 3, p.norm_cfg, p.act_cfg));
    }
    mask_feature_ = register_module(
        "mask_feature", std::make_shared<Conv2d>(ConvOptions{.in_channels = in.feat_channels,
                                                             .out_channels = in.out_channels,
                                                             .kernel_size = 3,
                                                             .padding = 1}));
  }

  /// Adds the coarsest map to the finer ones, step by step.
  torch::Tensor fuse(torch::Tensor y, const std::vector<torch::Tensor>& features) {
    for (size_t i = lateral_convs_->size(); i-- > 0;) {
      const auto fine = (*lateral_convs_)[i].forward(features[i]);
      y = (*output_convs_)[i].forward(fine + resize(y, map_size(fine), false, "nearest"));
    }
    return mask_feature_->forward(y);
  }

 private:
  std::shared_ptr<ListOf<ConvModule>> lateral_convs_, output_convs_;
  std::shared_ptr<ConvModule> last_feat_conv_;  ///< null with a transformer instead
  std::shared_ptr<Conv2d> mask_feature_;
};

SEG_REGISTER(MaskPixelDecoder, PixelDecoder);

// --- The same below a transformer ---------------------------------------------------------------

struct TransformerEncoderPixelDecoderParams : PixelDecoderParams {
  DetrEncoderCfg<DetrEncoderLayerCfg> encoder;
  SinePositionalEncoding positional_encoding{.num_feats = 128, .normalize = true};
};

class TransformerEncoderPixelDecoder final : public PixelDecoder {
 public:
  using Params = TransformerEncoderPixelDecoderParams;
  static Schema<Params> schema() {
    return Schema<Params>("A transformer over the coarsest map, then a feature pyramid.")
        .source("MaskFormer, Cheng et al. 2021, arXiv:2107.06278")
        .include(PixelDecoder::options())
        .required("encoder", &Params::encoder, "the transformer")
        .optional("positional_encoding", &Params::positional_encoding, "encoding of positions");
  }
  TransformerEncoderPixelDecoder(const Params& p, const PixelDecoderInputs& in)
      : PixelDecoder(p, in, false), positions_(p.positional_encoding), num_cp_(p.encoder.num_cp) {
    const int64_t width = p.encoder.layer().self_attn_cfg.embed_dims;
    if (width != in.feat_channels) {
      throw OptionError("encoder", text("embed_dims is ", width, ", but feat_channels of the head ",
                                        in.feat_channels));
    }
    encoder_ = std::make_shared<torch::nn::Module>("encoder");
    layers_ = encoder_->register_module("layers", std::make_shared<ListOf<DetrEncoderLayer>>());
    for (int64_t i = 0; i < p.encoder.num_layers; ++i) {
      layers_->push_back(std::make_shared<DetrEncoderLayer>(p.encoder.layer()));
    }
    register_module("encoder", encoder_);
    encoder_in_proj_ = register_module(
        "encoder_in_proj",
        std::make_shared<Conv2d>(ConvOptions{.in_channels = in.features.back().channels,
                                             .out_channels = in.feat_channels}));
    encoder_out_proj_ =
        register_module("encoder_out_proj",
                        pixel_conv(in.feat_channels, in.feat_channels, 3, p.norm_cfg, p.act_cfg));
  }
  DecodedPixels forward(const std::vector<torch::Tensor>& features,
                        const torch::Tensor& padding) override {
    const auto last = encoder_in_proj_->forward(features.back());
    const auto positions = positions_(last, padding);
    const auto allowed = allowed_keys(padding);
    auto x = last.flatten(2).transpose(1, 2);  // [N, h*w, C]
    int64_t left = num_cp_;
    for (const auto& layer : *layers_) {
      const auto run = [layer, positions, allowed](const torch::Tensor& query) {
        return layer->forward(query, positions, allowed);
      };
      x = run_block(left-- > 0, run, x);
    }
    const auto memory = x.transpose(1, 2).reshape_as(last);
    return {fuse(encoder_out_proj_->forward(memory), features), {memory}};
  }
  bool passes_backbone_memory() const override { return false; }
  void init_weights() override {
    PixelDecoder::init_weights();
    caffe2_xavier_init(*encoder_in_proj_);
    caffe2_xavier_init(*encoder_out_proj_->conv());
    xavier_matrices_init(*encoder_, /*uniform=*/true);
  }

 private:
  SinePositionalEncoding positions_;
  int64_t num_cp_;
  std::shared_ptr<torch::nn::Module> encoder_;
  std::shared_ptr<ListOf<DetrEncoderLayer>> layers_;
  std::shared_ptr<Conv2d> encoder_in_proj_;
  std::shared_ptr<ConvModule> encoder_out_proj_;
};

SEG_REGISTER(MaskPixelDecoder, TransformerEncoderPixelDecoder);

}  // namespace seg
