#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/channel_attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct StackingNetParams {
  int64_t in_channels = 0;
  int64_t base_channels = 32;
  int64_t num_blocks = 3;
  std::string conv = "standard";
  std::string attention = "none";
  int64_t groups = 4;
  std::vector<int64_t> dilations{1, 2, 4};
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

constexpr int64_t kSqueezeRatio = 8;

/// A 3x3 convolution of the net's kind that keeps the width.
std::shared_ptr<Layer> stacking_conv(const StackingNetParams& p, int64_t dilation,
                                     const ActCfg& act_cfg) {
  ConvModuleOptions options{.in_channels = p.base_channels,
                            .out_channels = p.base_channels,
                            .kernel_size = 3,
                            .padding = dilation,
                            .dilation = dilation,
                            .groups = p.conv == "grouped" ? p.groups : 1,
                            .norm_cfg = p.norm_cfg,
                            .act_cfg = act_cfg};
  if (p.conv != "depthwise") return std::make_shared<ConvModule>(options);
  DepthwiseSeparableOptions separable{options};
  separable.dw_act_cfg = p.act_cfg;
  return std::make_shared<DepthwiseSeparableConvModule>(separable);
}

/// Null: none.
std::shared_ptr<Layer> stacking_attention(const std::string& kind, int64_t channels) {
  if (kind == "se") {
    return std::make_shared<SqueezeExcitation>(channels,
                                               std::max<int64_t>(channels / kSqueezeRatio, 1));
  }
  if (kind == "eca") return std::make_shared<EfficientChannelAttention>(channels);
  if (kind == "cbam") return std::make_shared<ConvBlockAttention>(channels);
  if (kind == "spatial") return std::make_shared<SpatialAttention>();
  return nullptr;
}

/// Two convolutions and the attention beside the map itself: children `conv1`, `conv2`,
/// `attention`, `act`.
class StackingBlock final : public Layer {
 public:
  StackingBlock(const StackingNetParams& p, int64_t dilation) {
    conv1_ = register_module("conv1", stacking_conv(p, dilation, p.act_cfg));
    conv2_ = register_module("conv2", stacking_conv(p, dilation, /*act_cfg=*/{}));
    attention_ = stacking_attention(p.attention, p.base_channels);
    if (attention_) register_module("attention", attention_);
    if (p.act_cfg) act_ = register_module("act", p.act_cfg->build(/*inplace=*/false));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    auto out = conv2_->forward(conv1_->forward(x));
    if (attention_) out = attention_->forward(out);
    out = out + x;
    return act_ ? act_->forward(out) : out;
  }

 private:
  std::shared_ptr<Layer> conv1_, conv2_, attention_;
  std::shared_ptr<Activation> act_;
};

}  // namespace

/// The second stage of an ensemble (stacking, Wolpert 1992): a small network at full resolution
/// that learns from the probabilities of other models, which LoadSoftPredictions loads. A 1x1
/// convolution mixes the models (`stem`), then residual blocks look around each pixel (`blocks`).
class StackingNet final : public Backbone {
 public:
  using Params = StackingNetParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Learns from the stacked predictions of other models, at full resolution.")
        .source("stacked generalization, Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1")
        .required("in_channels", &P::in_channels,
                  "maps of probabilities: models times their classes", at_least(1))
        .optional("base_channels", &P::base_channels, "width of all blocks", at_least(1))
        .optional("num_blocks", &P::num_blocks, "residual blocks of two 3x3 convolutions",
                  at_least(1))
        .optional("conv", &P::conv, "kind of the 3x3 convolutions",
                  one_of({"standard", "depthwise", "dilated", "grouped"}))
        .optional("attention", &P::attention,
                  "at the end of each block: se and eca weigh channels, spatial pixels, cbam both",
                  one_of({"none", "se", "cbam", "spatial", "eca"}))
        .optional("groups", &P::groups, "of convolutions of the kind grouped", at_least(1))
        .optional("dilations", &P::dilations,
                  "of blocks of the kind dilated, one after the other and again from the first",
                  at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "type of the norms; null: none")
        .optional("act_cfg", &P::act_cfg, "type of the activations; null: none")
        .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          if (p.conv == "grouped" && p.base_channels % p.groups != 0) {
            problems.error("groups",
                           text("must divide base_channels ", p.base_channels, ", got ", p.groups));
          }
          if (p.conv == "dilated" && p.dilations.empty()) {
            problems.error("dilations", "must not be empty");
          }
        });
  }

  explicit StackingNet(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), channels_(p.base_channels) {
    stem_ = register_module(
        "stem", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.in_channels,
                                                               .out_channels = p.base_channels,
                                                               .norm_cfg = p.norm_cfg,
                                                               .act_cfg = p.act_cfg}));
    blocks_ = register_module("blocks", std::make_shared<Sequential>());
    for (int64_t i = 0; i < p.num_blocks; ++i) {
      const auto turn = static_cast<size_t>(i) % std::max<size_t>(p.dilations.size(), 1);
      blocks_->push_back(
          std::make_shared<StackingBlock>(p, p.conv == "dilated" ? p.dilations[turn] : 1));
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    return {blocks_->forward(stem_->forward(images))};
  }
  std::vector<FeatureInfo> features() const override {
    return {{.channels = channels_, .stride = 1}};
  }

 private:
  int64_t channels_;
  std::shared_ptr<ConvModule> stem_;
  std::shared_ptr<Sequential> blocks_;
};
SEG_REGISTER(Backbone, StackingNet);

}  // namespace seg
