#include <array>
#include <utility>

#include "segcore/models/blocks/global_response_norm.hpp"
#include "segcore/models/blocks/pointwise_conv.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/layer_norm2d.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct ConvNeXtVariant {
  std::string name;  ///< timm's
  std::string summary;
  std::array<int64_t, 4> depths, channels;
  int64_t version = 1;        ///< 2: global response norms instead of scales
  bool conv_weights = false;  ///< the layers over channels are 1x1 convolutions
  int64_t stem_channels = 0;  ///< between the two convolutions of an overlapping stem; 0: patches
  double eps = 1e-6;          ///< of the norms
  std::vector<std::string> tags = {};

  std::shared_ptr<LayerNorm2d> norm(int64_t width) const {
    return std::make_shared<LayerNorm2d>(LayerNorm2dParams{.eps = eps}, width);
  }
};

std::vector<ConvNeXtVariant> convnext_variants() {
  return {
      {.name = "convnext_atto",
       .summary = "ConvNeXt, atto.",
       .depths = {2, 2, 6, 2},
       .channels = {40, 80, 160, 320},
       .conv_weights = true,
       .tags = {"d2_in1k"}},
      {.name = "convnext_atto_ols",
       .summary = "ConvNeXt, atto, with an overlapping stem.",
       .depths = {2, 2, 6, 2},
       .channels = {40, 80, 160, 320},
       .conv_weights = true,
       .stem_channels = 24,
       .tags = {"a2_in1k"}},
      {.name = "convnext_femto",
       .summary = "ConvNeXt, femto.",
       .depths = {2, 2, 6, 2},
       .channels = {48, 96, 192, 384},
       .conv_weights = true,
       .tags = {"d1_in1k"}},
      {.name = "convnext_femto_ols",
       .summary = "ConvNeXt, femto, with an overlapping stem.",
       .depths = {2, 2, 6, 2},
       .channels = {48, 96, 192, 384},
       .conv_weights = true,
       .stem_channels = 24,
       .tags = {"d1_in1k"}},
      {.name = "convnext_pico",
       .summary = "ConvNeXt, pico.",
       .depths = {2, 2, 6, 2},
       .channels = {64, 128, 256, 512},
       .conv_weights = true,
       .tags = {"d1_in1k"}},
      {.name = "convnext_pico_ols",
       .summary = "ConvNeXt, pico, with an overlapping stem.",
       .depths = {2, 2, 6, 2},
       .channels = {64, 128, 256, 512},
       .conv_weights = true,
       .stem_channels = 32,
       .tags = {"d1_in1k"}},
      {.name = "convnext_nano",
       .summary = "ConvNeXt, nano.",
       .depths = {2, 2, 8, 2},
       .channels = {80, 160, 320, 640},
       .conv_weights = true,
       .tags = {"in12k_ft_in1k", "d1h_in1k", "r384_in12k_ft_in1k", "in12k", "r384_in12k",
                "r384_ad_in12k"}},
      {.name = "convnext_nano_ols",
       .summary = "ConvNeXt, nano, with an overlapping stem.",
       .depths = {2, 2, 8, 2},
       .channels = {80, 160, 320, 640},
       .conv_weights = true,
       .stem_channels = 80,
       .tags = {"d1h_in1k"}},
      {.name = "convnext_tiny",
       .summary = "ConvNeXt, tiny.",
       .depths = {3, 3, 9, 3},
       .channels = {96, 192, 384, 768},
       .tags = {"in12k_ft_in1k", "in12k_ft_in1k_384", "in12k", "fb_in22k_ft_in1k", "fb_in1k",
                "fb_in22k_ft_in1k_384", "fb_in22k", "dinov3_lvd1689m", "eupe_lvd1689m"}},
      {.name = "convnext_tiny_hnf",
       .summary = "ConvNeXt, tiny, trained with the norm before the pooling.",
       .depths = {3, 3, 9, 3},
       .channels = {96, 192, 384, 768},
       .conv_weights = true,
       .tags = {"a2h_in1k"}},
      {.name = "convnext_small",
       .summary = "ConvNeXt, small.",
       .depths = {3, 3, 27, 3},
       .channels = {96, 192, 384, 768},
       .tags = {"in12k_ft_in1k", "in12k_ft_in1k_384", "in12k", "fb_in22k_ft_in1k", "fb_in1k",
                "fb_in22k_ft_in1k_384", "fb_in22k", "dinov3_lvd1689m", "eupe_lvd1689m"}},
      {.name = "convnext_base",
       .summary = "ConvNeXt, base.",
       .depths = {3, 3, 27, 3},
       .channels = {128, 256, 512, 1024},
       .tags = {"fb_in22k_ft_in1k", "fb_in1k", "fb_in22k_ft_in1k_384", "fb_in22k",
                "clip_laion2b_augreg_ft_in12k_in1k", "clip_laion2b_augreg_ft_in12k_in1k_384",
                "clip_laion2b_augreg_ft_in1k", "clip_laiona_augreg_ft_in1k_384",
                "clip_laion2b_augreg_ft_in12k", "clip_laion2b", "clip_laion2b_augreg",
                "clip_laiona", "clip_laiona_320", "clip_laiona_augreg_320", "dinov3_lvd1689m",
                "eupe_lvd1689m"}},
      {.name = "convnext_large",
       .summary = "ConvNeXt, large.",
       .depths = {3, 3, 27, 3},
       .channels = {192, 384, 768, 1536},
       .tags = {"fb_in22k_ft_in1k", "fb_in1k", "fb_in22k_ft_in1k_384", "fb_in22k",
                "dinov3_lvd1689m"}},
      {.name = "convnext_large_mlp",
       .summary = "ConvNeXt, large, trained by CLIP.",
       .depths = {3, 3, 27, 3},
       .channels = {192, 384, 768, 1536},
       .tags = {"clip_laion2b_soup_ft_in12k_in1k_320", "clip_laion2b_soup_ft_in12k_in1k_384",
                "clip_laion2b_augreg_ft_in1k", "clip_laion2b_augreg_ft_in1k_384",
                "clip_laion2b_soup_ft_in12k_320", "clip_laion2b_augreg_ft_in12k_384",
                "clip_laion2b_soup_ft_in12k_384", "clip_laion2b_augreg", "clip_laion2b_ft_320",
                "clip_laion2b_ft_soup_320"}},
      {.name = "convnext_xlarge",
       .summary = "ConvNeXt, xlarge.",
       .depths = {3, 3, 27, 3},
       .channels = {256, 512, 1024, 2048},
       .tags = {"fb_in22k_ft_in1k", "fb_in22k_ft_in1k_384", "fb_in22k"}},
      {.name = "convnext_xxlarge",
       .summary = "ConvNeXt, xxlarge.",
       .depths = {3, 4, 30, 3},
       .channels = {384, 768, 1536, 3072},
       .eps = 1e-05,
       .tags = {"clip_laion2b_soup_ft_in1k", "clip_laion2b_soup_ft_in12k", "clip_laion2b_soup",
                "clip_laion2b_rewind"}},
      {.name = "convnextv2_atto",
       .summary = "ConvNeXt V2, atto.",
       .depths = {2, 2, 6, 2},
       .channels = {40, 80, 160, 320},
       .version = 2,
       .conv_weights = true,
       .tags = {"fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_femto",
       .summary = "ConvNeXt V2, femto.",
       .depths = {2, 2, 6, 2},
       .channels = {48, 96, 192, 384},
       .version = 2,
       .conv_weights = true,
       .tags = {"fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_pico",
       .summary = "ConvNeXt V2, pico.",
       .depths = {2, 2, 6, 2},
       .channels = {64, 128, 256, 512},
       .version = 2,
       .conv_weights = true,
       .tags = {"fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_nano",
       .summary = "ConvNeXt V2, nano.",
       .depths = {2, 2, 8, 2},
       .channels = {80, 160, 320, 640},
       .version = 2,
       .conv_weights = true,
       .tags = {"fcmae_ft_in22k_in1k", "fcmae_ft_in22k_in1k_384", "fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_tiny",
       .summary = "ConvNeXt V2, tiny.",
       .depths = {3, 3, 9, 3},
       .channels = {96, 192, 384, 768},
       .version = 2,
       .tags = {"fcmae_ft_in22k_in1k", "fcmae_ft_in22k_in1k_384", "fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_small",
       .summary = "ConvNeXt V2, small.",
       .depths = {3, 3, 27, 3},
       .channels = {96, 192, 384, 768},
       .version = 2},
      {.name = "convnextv2_base",
       .summary = "ConvNeXt V2, base.",
       .depths = {3, 3, 27, 3},
       .channels = {128, 256, 512, 1024},
       .version = 2,
       .tags = {"fcmae_ft_in22k_in1k", "fcmae_ft_in22k_in1k_384", "fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_large",
       .summary = "ConvNeXt V2, large.",
       .depths = {3, 3, 27, 3},
       .channels = {192, 384, 768, 1536},
       .version = 2,
       .tags = {"fcmae_ft_in22k_in1k", "fcmae_ft_in22k_in1k_384", "fcmae_ft_in1k", "fcmae"}},
      {.name = "convnextv2_huge",
       .summary = "ConvNeXt V2, huge.",
       .depths = {3, 3, 27, 3},
       .channels = {352, 704, 1408, 2816},
       .version = 2,
       .tags = {"fcmae_ft_in22k_in1k_384", "fcmae_ft_in22k_in1k_512", "fcmae_ft_in1k", "fcmae"}},
  };
}

/// Two layers over channels: children `fc1`, `grn`, `fc2`.
class TimmConvNeXtMlp final : public Layer {
 public:
  TimmConvNeXtMlp(const ConvNeXtVariant& v, int64_t width) {
    fc1_.emplace(*this, "fc1", !v.conv_weights, width, 4 * width);
    if (v.version == 2) {
      grn_ =
          register_module("grn", std::make_shared<GlobalResponseNorm>(4 * width, "weight", "bias"));
    }
    fc2_.emplace(*this, "fc2", !v.conv_weights, 4 * width, width);
  }
  /// [N, H, W, C]
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto y = at::gelu((*fc1_)(x));
    return (*fc2_)(grn_ ? grn_->forward(y) : y);
  }

 private:
  std::optional<PointwiseConv> fc1_, fc2_;
  std::shared_ptr<GlobalResponseNorm> grn_;  ///< may be null
};

/// A depthwise convolution and two layers over channels: parameter `gamma`, children `conv_dw`,
/// `norm`, `mlp`.
class TimmConvNeXtBlock final : public Layer {
 public:
  TimmConvNeXtBlock(const ConvNeXtVariant& v, int64_t width, int64_t dilation, double drop_path) {
    if (v.version == 1) gamma_ = register_parameter("gamma", torch::full({width}, 1e-6));
    depthwise_ =
        register_module("conv_dw", std::make_shared<Conv2d>(ConvOptions{.in_channels = width,
                                                                        .out_channels = width,
                                                                        .kernel_size = 7,
                                                                        .padding = 3 * dilation,
                                                                        .dilation = dilation,
                                                                        .groups = width}));
    norm_ = register_module("norm", v.norm(width));
    mlp_ = register_module("mlp", std::make_shared<TimmConvNeXtMlp>(v, width));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& shortcut) override {
    auto x = depthwise_->forward(shortcut).permute({0, 2, 3, 1});  // [N, H, W, C]
    x = mlp_->forward(norm_->forward_channels_last(x));
    if (gamma_.defined()) x = x * gamma_;
    return shortcut + drop_path_->forward(x.permute({0, 3, 1, 2}));  // [N, C, H, W]
  }

 private:
  torch::Tensor gamma_;  ///< undefined in version 2
  std::shared_ptr<Conv2d> depthwise_;
  std::shared_ptr<LayerNorm2d> norm_;
  std::shared_ptr<TimmConvNeXtMlp> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// A norm and a convolution of 2x2 pixels, which strides or is dilated: children `0`, `1`.
std::shared_ptr<Sequential> convnext_downsample(const ConvNeXtVariant& v, int64_t in, int64_t out,
                                                int64_t dilation) {
  const int64_t spread = dilation > 2 ? 2 : 1;  // of the two pixels
  auto layers = std::make_shared<Sequential>();
  layers->push_back("0", v.norm(in));
  if (dilation > 1) {
    // Keeps the size.
    layers->push_back("pad", std::make_shared<Lambda>([spread](const torch::Tensor& x) {
                        const int64_t before = spread / 2, after = spread - before;
                        return at::constant_pad_nd(x, {before, after, before, after});
                      }));
  }
  layers->push_back("1", std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                              .out_channels = out,
                                                              .kernel_size = 2,
                                                              .stride = dilation > 1 ? 1 : 2,
                                                              .dilation = spread}));
  return layers;
}

/// ConvNeXt with timm's names.
class TimmConvNeXt final : public ChainEncoder {
 public:
  TimmConvNeXt(const ConvNeXtVariant& v, const EncoderOptions& options)
      : ChainEncoder({.name = "tu-" + v.name,
                      .channels = {0, v.channels[0], v.channels[1], v.channels[2], v.channels[3]},
                      .published = timm_weights(v.name, v.tags),
                      .classifier = {"norm_pre.", "head."},
                      .drops_paths = true},
                     options),
        depths_(v.depths.begin(), v.depths.end()) {
    add_stem(v);
    int64_t blocks = 0;
    for (const int64_t depth : depths_) blocks += depth;
    const auto rates = drop_path_rates(drop_path_rate(), blocks);
    size_t block = 0;
    for (size_t i = 0; i < depths_.size(); ++i) {
      const int64_t width = v.channels[i], dilation = dilation_of(int64_t{4} << i);
      auto stage = std::make_shared<Sequential>();
      if (i > 0) {
        stage->push_back("downsample", convnext_downsample(v, v.channels[i - 1], width, dilation));
      }
      auto list = std::make_shared<Sequential>();
      for (int64_t b = 0; b < depths_[i]; ++b) {
        list->push_back(std::make_shared<TimmConvNeXtBlock>(v, width, dilation, rates[block++]));
      }
      stage->push_back("blocks", list);
      add(text("stages.", i), stage);
      end_level();
    }
  }

  std::vector<StageNames> layers() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < depths_.size(); ++i) {
      // As the backbone of the same network has it.
      stages.push_back({.embedding = {i == 0 ? "stem." : text("stages.", i, ".downsample.")},
                        .blocks = text("stages.", i, ".blocks."),
                        .num_blocks = depths_[i],
                        .blocks_per_layer = i == 2 ? 3 : depths_[i]});
    }
    return stages;
  }
  void init_weights() override {
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Conv2d*>(&m) || dynamic_cast<Linear*>(&m)) trunc_normal_init(m, 0, 0.02);
    });
  }

 private:
  void add_stem(const ConvNeXtVariant& v) {
    const int64_t width = v.channels[0];
    if (v.stem_channels == 0) {
      set_first_conv(
          "stem.0.weight",
          add("stem.0", std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                             .out_channels = width,
                                                             .kernel_size = 4,
                                                             .stride = 4})));
      add("stem.1", v.norm(width));
      return;
    }
    const auto conv = [](int64_t in, int64_t out) {
      return std::make_shared<Conv2d>(ConvOptions{
          .in_channels = in, .out_channels = out, .kernel_size = 3, .stride = 2, .padding = 1});
    };
    set_first_conv("stem.0.weight", add("stem.0", conv(in_channels(), v.stem_channels)));
    add("stem.1", conv(v.stem_channels, width));
    add("stem.2", v.norm(width));
  }

  std::vector<int64_t> depths_;
};

std::vector<EncoderEntry> convnext_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : convnext_variants()) {
    out.push_back({.name = "tu-" + v.name,
                   .summary = v.summary,
                   .source = v.version == 1 ? "Liu et al. 2022, arXiv:2201.03545"
                                            : "Woo et al. 2023, arXiv:2301.00808",
                   .build = [v](const EncoderOptions& options) {
                     return std::make_shared<TimmConvNeXt>(v, options);
                   }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(convnext_encoders);

}  // namespace
}  // namespace seg
