#include <array>

#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/resnet.hpp"
#include "segcore/models/blocks/ppm.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ICNetParams {
  Spec<Backbone> backbone_cfg;
  int64_t in_channels = 3;
  std::optional<std::array<int64_t, 2>> layer_channels;
  int64_t light_branch_middle_channels = 32;
  int64_t psp_out_channels = 512;
  std::array<int64_t, 3> out_channels{64, 256, 256};
  std::vector<int64_t> pool_scales{1, 2, 3, 6};
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN, requires_grad: true}");
  ActCfg act_cfg = relu_cfg();
  bool align_corners = false;
  InitCfg init_cfg = init_cfg_of(
      "[{type: Kaiming, mode: fan_out, layer: Conv2d}, {type: Constant, val: 1, layer: "
      "_BatchNorm}, {type: Normal, mean: 0.01, layer: Linear}]");
};

namespace {

std::shared_ptr<ConvModule> icnet_conv(const ICNetParams& p, int64_t in, int64_t out,
                                       int64_t kernel_size, int64_t stride,
                                       const ActCfg& act = relu_cfg()) {
  return padded_conv(in, out, kernel_size, stride, p.norm_cfg, act, /*groups=*/1, p.conv_cfg);
}

/// The network of `backbone_cfg`.
/// \throws OptionError if it is not a residual network of four stages, or of other widths.
std::shared_ptr<ResNet> icnet_backbone(const ICNetParams& p) {
  auto net = std::dynamic_pointer_cast<ResNet>(p.backbone_cfg.build());
  if (!net) {
    throw OptionError("backbone_cfg", text("must be a residual network, whose stages run on images "
                                           "of several sizes; ",
                                           p.backbone_cfg.type(), " is not"));
  }
  const auto& stages = net->stages();
  if (stages.size() != 4) {
    throw OptionError("backbone_cfg", text("must have 4 stages, but has ", stages.size()));
  }
  const std::array<int64_t, 2> widths{stages[1].channels, stages[3].channels};
  if (p.layer_channels && *p.layer_channels != widths) {
    throw OptionError("layer_channels",
                      text("is [", join(*p.layer_channels, ", "),
                           "], but stages 2 and 4 of "
                           "backbone_cfg have [",
                           join(widths, ", "), "] channels. Leave it out to take what they have"));
  }
  return net;
}

}  // namespace

/// The image at full size through three convolutions, at half of it through half of a residual
/// network, and from there at a quarter through the rest.
///
/// Its outputs are the maps of the three branches, finest first.
class ICNet final : public Backbone {
 public:
  using Params = ICNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("An image cascade: the smaller the image, the deeper the network.")
        .source("Zhao et al. 2017, arXiv:1704.08545")
        .required("backbone_cfg", &Params::backbone_cfg, "the deep network, a ResNet or a variant")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("layer_channels", &Params::layer_channels,
                  "widths of stages 2 and 4 of backbone_cfg; null: what they have")
        .optional("light_branch_middle_channels", &Params::light_branch_middle_channels,
                  "width of the first convolutions at full size", at_least(1))
        .optional("psp_out_channels", &Params::psp_out_channels,
                  "width of the pooling pyramid after stage 4", at_least(1))
        .optional("out_channels", &Params::out_channels, "widths of the three maps", at_least(1))
        .optional("pool_scales", &Params::pool_scales, "sides of the pooled maps", at_least(1))
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the pyramid's activations")
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  explicit ICNet(const Params& p) : Backbone(p.init_cfg), align_corners_(p.align_corners) {
    backbone_ = register_module("backbone", icnet_backbone(p));
    const auto& stages = backbone_->stages();
    const int64_t deep = stages[3].channels, pooled = p.psp_out_channels;
    psp_modules_ = register_module(
        "psp_modules", std::make_shared<PPM>(PPMOptions{.pool_scales = p.pool_scales,
                                                        .in_channels = deep,
                                                        .channels = pooled,
                                                        .conv_cfg = p.conv_cfg,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg,
                                                        .align_corners = p.align_corners}));
    const auto scales = static_cast<int64_t>(p.pool_scales.size());
    psp_bottleneck_ = register_module(
        "psp_bottleneck", icnet_conv(p, deep + scales * pooled, pooled, 3, 1, p.act_cfg));
    const int64_t middle = p.light_branch_middle_channels;
    conv_sub1_ = std::make_shared<Sequential>();
    conv_sub1_->push_back(icnet_conv(p, p.in_channels, middle, 3, 2));
    conv_sub1_->push_back(icnet_conv(p, middle, middle, 3, 2));
    conv_sub1_->push_back(icnet_conv(p, middle, p.out_channels[0], 3, 2));
    register_module("conv_sub1", conv_sub1_);
    conv_sub2_ =
        register_module("conv_sub2", icnet_conv(p, stages[1].channels, p.out_channels[1], 1, 1));
    conv_sub4_ = register_module("conv_sub4", icnet_conv(p, pooled, p.out_channels[2], 1, 1));
    features_ = {{.channels = p.out_channels[0], .stride = 8},
                 {.channels = p.out_channels[1], .stride = 2 * stages[1].stride},
                 {.channels = p.out_channels[2], .stride = 4 * stages[3].stride}};
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out{conv_sub1_->forward(images)};
    auto x = backbone_->forward_stem(resize_by(images, 0.5, align_corners_));
    x = at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1, /*dilation=*/1,
                       /*ceil_mode=*/true);
    for (const size_t stage : {0, 1}) x = backbone_->forward_stage(stage, x);
    out.push_back(conv_sub2_->forward(x));
    x = resize_by(x, 0.5, align_corners_);
    for (const size_t stage : {2, 3}) x = backbone_->forward_stage(stage, x);
    auto maps = psp_modules_->forward(x);
    maps.push_back(x);
    out.push_back(conv_sub4_->forward(psp_bottleneck_->forward(joined_maps(maps))));
    return out;
  }

 private:
  bool align_corners_;
  std::shared_ptr<ResNet> backbone_;
  std::shared_ptr<PPM> psp_modules_;
  std::shared_ptr<ConvModule> psp_bottleneck_, conv_sub2_, conv_sub4_;
  std::shared_ptr<Sequential> conv_sub1_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, ICNet);

}  // namespace seg
