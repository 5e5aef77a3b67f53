#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ERFNetParams {
  int64_t in_channels = 3;
  std::vector<int64_t> enc_downsample_channels{16, 64, 128};
  std::vector<int64_t> enc_stage_non_bottlenecks{5, 8};
  std::vector<int64_t> enc_non_bottleneck_dilations{2, 4, 8, 16};
  std::vector<int64_t> enc_non_bottleneck_channels{64, 128};
  std::vector<int64_t> dec_upsample_channels{64, 16};
  std::vector<int64_t> dec_stages_non_bottleneck{2, 2};
  std::vector<int64_t> dec_non_bottleneck_channels{64, 16};
  double dropout_ratio = 0.1;
  InitCfg init_cfg;
};

namespace {

std::shared_ptr<Norm> erfnet_norm(int64_t channels) {
  return Spec<Norm>::of("{type: BN, eps: 1e-3}").build(channels);
}

/// Halves a map by a convolution and by pooling side by side: children `conv`, `bn`.
class ERFNetDownsampler final : public Layer {
 public:
  ERFNetDownsampler(int64_t in, int64_t out) {
    conv_ = register_module("conv", std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                                         .out_channels = out - in,
                                                                         .kernel_size = 3,
                                                                         .stride = 2,
                                                                         .padding = 1}));
    bn_ = register_module("bn", erfnet_norm(out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto conv = conv_->forward(x);
    const auto pooled = resize(at::max_pool2d(x, /*kernel_size=*/2), map_size(conv));
    return bn_->forward(joined_maps({conv, pooled})).relu();
  }

 private:
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> bn_;
};

/// Two pairs of a 3x1 and a 1x3 convolution with a shortcut; the second pair is dilated.
class NonBottleneck1d final : public Layer {
 public:
  NonBottleneck1d(int64_t channels, double dropout, int64_t dilation) {
    const auto conv = [channels](Size2 kernel, int64_t d) {
      const Size2 along{kernel.h > 1 ? d : 1, kernel.w > 1 ? d : 1};
      const Size2 padding{kernel.h > 1 ? d : 0, kernel.w > 1 ? d : 0};
      return std::make_shared<Conv2d>(ConvOptions{.in_channels = channels,
                                                  .out_channels = channels,
                                                  .kernel_size = kernel,
                                                  .padding = padding,
                                                  .dilation = along});
    };
    const auto relu = [] {
      return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
    };
    layers_ = std::make_shared<Sequential>();
    for (const bool last : {false, true}) {
      const int64_t d = last ? dilation : 1;
      layers_->push_back(conv({3, 1}, d));
      layers_->push_back(relu());
      layers_->push_back(conv({1, 3}, d));
      layers_->push_back(erfnet_norm(channels));
      if (last) {
        layers_->push_back(std::make_shared<Dropout>(dropout));
      } else {
        layers_->push_back(relu());
      }
    }
    register_module("convs_layers", layers_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return (layers_->forward(x) + x).relu();
  }

 private:
  std::shared_ptr<Sequential> layers_;
};

/// Doubles a map by a transposed convolution: children `conv`, `bn`.
class ERFNetUpsampler final : public Layer {
 public:
  ERFNetUpsampler(int64_t in, int64_t out) {
    conv_ = register_module("conv", std::make_shared<ConvTranspose2d>(in, out, /*kernel_size=*/3,
                                                                      /*stride=*/2, /*padding=*/1,
                                                                      /*output_padding=*/1));
    bn_ = register_module("bn", erfnet_norm(out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return bn_->forward(conv_->forward(x)).relu();
  }

 private:
  std::shared_ptr<ConvTranspose2d> conv_;
  std::shared_ptr<Norm> bn_;
};

}  // namespace

/// Residual blocks of factorised convolutions in an encoder and a small decoder; one map.
class ERFNet final : public Backbone {
 public:
  using Params = ERFNetParams;
  static Schema<Params> schema() {
    const std::string fixed = "has no effect, as in MMSegmentation: ";
    const std::string counted =
        "checked for its length and without further effect, as in "
        "MMSegmentation";
    return Schema<Params>("Residual blocks of factorised convolutions, encoder and decoder.")
        .source("Romera et al. 2018, IEEE T-ITS 19(1)")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("enc_downsample_channels", &Params::enc_downsample_channels,
                  "widths of the encoder's stages", at_least(1))
        .optional("enc_stage_non_bottlenecks", &Params::enc_stage_non_bottlenecks,
                  "residual blocks of the encoder's stages after the first", at_least(0))
        .optional("enc_non_bottleneck_dilations", &Params::enc_non_bottleneck_dilations,
                  "dilations of the last stage's blocks, in turn", at_least(1))
        .optional("enc_non_bottleneck_channels", &Params::enc_non_bottleneck_channels, counted)
        .optional("dec_upsample_channels", &Params::dec_upsample_channels, counted)
        .optional("dec_stages_non_bottleneck", &Params::dec_stages_non_bottleneck,
                  "residual blocks of the decoder's stages", at_least(0))
        .optional("dec_non_bottleneck_channels", &Params::dec_non_bottleneck_channels,
                  "widths of the decoder's stages", at_least(1))
        .optional("dropout_ratio", &Params::dropout_ratio,
                  "probability of a value of the encoder's blocks to be zeroed", in_range(0, 1))
        .accepted("conv_cfg", fixed + "all convolutions are Conv2d")
        .accepted("norm_cfg", fixed + "all norms are BN with eps 1e-3")
        .accepted("act_cfg", fixed + "all activations are ReLU")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate(check);
  }

  explicit ERFNet(const Params& p) : Backbone(p.init_cfg) {
    encoder_ = register_module("encoder", std::make_shared<Sequential>());
    decoder_ = register_module("decoder", std::make_shared<Sequential>());
    const auto& widths = p.enc_downsample_channels;
    encoder_->push_back(std::make_shared<ERFNetDownsampler>(p.in_channels, widths[0]));
    for (size_t i = 1; i < widths.size(); ++i) {
      encoder_->push_back(std::make_shared<ERFNetDownsampler>(widths[i - 1], widths[i]));
      const auto& dilations = p.enc_non_bottleneck_dilations;
      const bool last = i + 1 == widths.size();
      for (int64_t b = 0; b < p.enc_stage_non_bottlenecks[i - 1]; ++b) {
        const int64_t dilation = last ? dilations[static_cast<size_t>(b) % dilations.size()] : 1;
        encoder_->push_back(
            std::make_shared<NonBottleneck1d>(widths[i], p.dropout_ratio, dilation));
      }
    }
    int64_t in = widths.back();
    for (size_t i = 0; i < p.dec_non_bottleneck_channels.size(); ++i) {
      const int64_t out = p.dec_non_bottleneck_channels[i];
      decoder_->push_back(std::make_shared<ERFNetUpsampler>(in, out));
      for (int64_t b = 0; b < p.dec_stages_non_bottleneck[i]; ++b) {
        decoder_->push_back(std::make_shared<NonBottleneck1d>(out, 0, 1));
      }
      in = out;
    }
    channels_ = in;
  }

  std::vector<FeatureInfo> features() const override {
    return {{.channels = channels_, .stride = 2}};
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    return {decoder_->forward(encoder_->forward(images))};
  }

 private:
  static void check(const Params& p, Problems& problems) {
    const size_t stages = p.enc_downsample_channels.size();
    if (stages < 2) {
      problems.error("enc_downsample_channels", text("needs two values or more, got ", stages));
      return;
    }
    const auto expect = [&](const char* option, const std::vector<int64_t>& values) {
      if (values.size() == stages - 1) return;
      problems.error(option, text("needs one value less than enc_downsample_channels, ", stages - 1,
                                  "; got ", values.size()));
    };
    expect("enc_stage_non_bottlenecks", p.enc_stage_non_bottlenecks);
    expect("enc_non_bottleneck_channels", p.enc_non_bottleneck_channels);
    expect("dec_upsample_channels", p.dec_upsample_channels);
    expect("dec_stages_non_bottleneck", p.dec_stages_non_bottleneck);
    expect("dec_non_bottleneck_channels", p.dec_non_bottleneck_channels);
    const size_t dilations = p.enc_non_bottleneck_dilations.size();
    const auto& blocks = p.enc_stage_non_bottlenecks;
    if (dilations == 0 || (!blocks.empty() && blocks.back() % static_cast<int64_t>(dilations))) {
      problems.error("enc_non_bottleneck_dilations",
                     text("must have a number of values that divides the last of "
                          "enc_stage_non_bottlenecks, got ",
                          dilations));
    }
    int64_t in = p.in_channels;
    for (const int64_t out : p.enc_downsample_channels) {
      if (out <= in) {
        problems.error(
            "enc_downsample_channels",
            text("each stage must be wider than what it takes, got ", out, " after ", in));
      }
      in = out;
    }
  }

  int64_t channels_ = 0;
  std::shared_ptr<Sequential> encoder_, decoder_;
};

SEG_REGISTER(Backbone, ERFNet);

}  // namespace seg
