#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct UNetParams {
  int64_t in_channels = 3;
  int64_t base_channels = 64;
  int64_t num_stages = 5;
  std::vector<int64_t> strides{1, 1, 1, 1, 1};
  std::vector<int64_t> enc_num_convs{2, 2, 2, 2, 2};
  std::vector<int64_t> dec_num_convs{2, 2, 2, 2};
  std::vector<bool> downsamples{true, true, true, true};
  std::vector<int64_t> enc_dilations{1, 1, 1, 1, 1};
  std::vector<int64_t> dec_dilations{1, 1, 1, 1};
  bool with_cp = false;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  Spec<UpsampleLayer> upsample_cfg = Spec<UpsampleLayer>::of("{type: InterpConv}");
  bool norm_eval = false;
  std::optional<Config> dcn;
  std::optional<Config> plugins;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

/// Plain 3x3 convolutions; all but the first dilated.
class UNetConvBlock final : public Layer {
 public:
  UNetConvBlock(const UNetParams& p, int64_t in, int64_t out, int64_t count, int64_t stride,
                int64_t dilation)
      : with_cp_(p.with_cp) {
    convs_ = std::make_shared<Sequential>();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t own_dilation = i == 0 ? 1 : dilation;
      convs_->push_back(
          std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = i == 0 ? in : out,
                                                         .out_channels = out,
                                                         .kernel_size = 3,
                                                         .stride = i == 0 ? stride : 1,
                                                         .padding = own_dilation,
                                                         .dilation = own_dilation,
                                                         .conv_cfg = p.conv_cfg,
                                                         .norm_cfg = p.norm_cfg,
                                                         .act_cfg = p.act_cfg}));
    }
    register_module("convs", convs_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto run = [this](const torch::Tensor& in) { return convs_->forward(in); };
    return run_block(with_cp_, run, x);
  }

 private:
  bool with_cp_;
  std::shared_ptr<Sequential> convs_;
};

/// Enlarges the deeper map, joins it with the encoder's and convolves.
class UNetUpBlock final : public BaseModule {
 public:
  UNetUpBlock(const UNetParams& p, int64_t in, int64_t skip, int64_t count, int64_t dilation,
              bool enlarges) {
    conv_block_ = register_module(
        "conv_block", std::make_shared<UNetConvBlock>(p, 2 * skip, skip, count, 1, dilation));
    std::shared_ptr<Layer> upsample;
    if (enlarges) {
      upsample = p.upsample_cfg.build(UpsampleOptions{.in_channels = in,
                                                      .out_channels = skip,
                                                      .with_cp = p.with_cp,
                                                      .norm_cfg = p.norm_cfg,
                                                      .act_cfg = p.act_cfg});
    } else {
      upsample = std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                                .out_channels = skip,
                                                                .kernel_size = 1,
                                                                .conv_cfg = p.conv_cfg,
                                                                .norm_cfg = p.norm_cfg,
                                                                .act_cfg = p.act_cfg});
    }
    upsample_ = register_module("upsample", upsample);
  }
  torch::Tensor forward(const torch::Tensor& skip, const torch::Tensor& x) {
    return conv_block_->forward(joined_maps({skip, upsample_->forward(x)}));
  }

 private:
  std::shared_ptr<UNetConvBlock> conv_block_;
  std::shared_ptr<Layer> upsample_;
};

}  // namespace

/// An encoder and a decoder with connections at each resolution.
///
/// Its outputs are the deepest map and each of the decoder's, finest last.
class UNet final : public Backbone {
 public:
  using Params = UNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Encoder and decoder with connections at each resolution.")
        .source("Ronneberger et al. 2015, arXiv:1505.04597")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("base_channels", &Params::base_channels, "width of the first stage", at_least(1))
        .optional("num_stages", &Params::num_stages, "stages of the encoder", at_least(1))
        .optional("strides", &Params::strides, "stride of the first convolution of each stage",
                  in_range(1, 2))
        .optional("enc_num_convs", &Params::enc_num_convs,
                  "convolutions of each stage of the encoder", at_least(1))
        .optional("dec_num_convs", &Params::dec_num_convs,
                  "convolutions of each stage of the decoder", at_least(1))
        .optional("downsamples", &Params::downsamples,
                  "whether each stage after the first starts with pooling, unless it strides")
        .optional("enc_dilations", &Params::enc_dilations, "dilation of each stage of the encoder",
                  at_least(1))
        .optional("dec_dilations", &Params::dec_dilations, "dilation of each stage of the decoder",
                  at_least(1))
        .optional("with_cp", &Params::with_cp,
                  "recompute blocks in the backward pass to save memory")
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .optional("upsample_cfg", &Params::upsample_cfg, "how the decoder enlarges maps")
        .optional("norm_eval", &Params::norm_eval, "batch norms keep their running statistics")
        .optional("dcn", &Params::dcn, "deformable convolutions; must be null")
        .optional("plugins", &Params::plugins, "layers inside blocks; must be null")
        .optional("pretrained", &Params::pretrained,
                  "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate([](const Params& p, Problems& problems) {
          const auto count = [&](const char* option, size_t given, int64_t wanted,
                                 const char* what) {
            if (static_cast<int64_t>(given) == wanted) return;
            problems.error(option, text("needs ", wanted, " values (", what, "), got ", given));
          };
          const int64_t n = p.num_stages;
          count("strides", p.strides.size(), n, "num_stages");
          count("enc_num_convs", p.enc_num_convs.size(), n, "num_stages");
          count("enc_dilations", p.enc_dilations.size(), n, "num_stages");
          count("dec_num_convs", p.dec_num_convs.size(), n - 1, "num_stages - 1");
          count("downsamples", p.downsamples.size(), n - 1, "num_stages - 1");
          count("dec_dilations", p.dec_dilations.size(), n - 1, "num_stages - 1");
          if (p.dcn) problems.error("dcn", "a U-Net has none; write null");
          if (p.plugins) problems.error("plugins", "a U-Net has none; write null");
          if (p.pretrained && p.init_cfg) {
            problems.error("pretrained", "cannot be combined with init_cfg");
          }
        });
  }

  explicit UNet(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), norm_eval_(p.norm_eval) {
    encoder_ = register_module("encoder", std::make_shared<ListOf<Sequential>>());
    decoder_ = register_module("decoder", std::make_shared<ListOf<UNetUpBlock>>());
    int64_t in = p.in_channels;
    std::vector<FeatureInfo> encoded;
    // Divisor of the sides over the whole network. A first stage that strides does so before the
    // maps that are joined.
    int64_t stride = p.strides[0];
    for (int64_t i = 0; i < p.num_stages; ++i) {
      const int64_t width = p.base_channels << i;
      auto stage = std::make_shared<Sequential>();
      if (i > 0) {
        if (p.strides[i] == 1 && p.downsamples[i - 1]) {
          stage->push_back(std::make_shared<Lambda>(
              [](const torch::Tensor& x) { return at::max_pool2d(x, /*kernel_size=*/2); }));
        }
        const bool halves = p.strides[i] != 1 || p.downsamples[i - 1];
        if (halves) {
          stride *= 2;
          divisor_ *= 2;
        }
        decoder_->push_back(std::make_shared<UNetUpBlock>(
            p, width, width / 2, p.dec_num_convs[i - 1], p.dec_dilations[i - 1], halves));
      }
      stage->push_back(std::make_shared<UNetConvBlock>(p, in, width, p.enc_num_convs[i],
                                                       p.strides[i], p.enc_dilations[i]));
      encoder_->push_back(stage);
      in = width;
      encoded.push_back({.channels = width, .stride = stride});
    }
    features_.assign(encoded.rbegin(), encoded.rend());
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    if (images.size(2) % divisor_ != 0 || images.size(3) % divisor_ != 0) {
      throw DataError(text("images of ", images.size(2), "x", images.size(3),
                           " do not fit this UNet: height and width must be multiples of ",
                           divisor_,
                           ". For training set size of the data preprocessor (crop_size), for "
                           "tests its test_cfg: {size_divisor: ",
                           divisor_, "}"));
    }
    std::vector<torch::Tensor> encoded;
    torch::Tensor x = images;
    for (const auto& stage : *encoder_) encoded.push_back(x = stage->forward(x));
    std::vector<torch::Tensor> out{x};
    for (size_t i = decoder_->size(); i-- > 0;) {
      out.push_back(x = (*decoder_)[i].forward(encoded[i], x));
    }
    return out;
  }

  void train(bool on = true) override {
    Backbone::train(on);
    if (on && norm_eval_) freeze_batch_norms(*this);
  }

 private:
  bool norm_eval_;
  int64_t divisor_ = 1;
  std::shared_ptr<ListOf<Sequential>> encoder_;
  std::shared_ptr<ListOf<UNetUpBlock>> decoder_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, UNet);

}  // namespace seg
