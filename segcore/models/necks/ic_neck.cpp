#include <array>

#include "segcore/models/neck.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ICNeckParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t out_channels = 128;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  bool align_corners = false;
  InitCfg init_cfg;
};

namespace {

/// Adds a coarse map, enlarged and convolved, to a fine one: children `conv_low`, `conv_high`.
class CascadeFusion final : public BaseModule {
 public:
  CascadeFusion(const ICNeckParams& p, int64_t low, int64_t high)
      : align_corners_(p.align_corners) {
    ConvModuleOptions o{.in_channels = low,
                        .out_channels = p.out_channels,
                        .kernel_size = 3,
                        .padding = 2,
                        .dilation = 2,
                        .conv_cfg = p.conv_cfg,
                        .norm_cfg = p.norm_cfg,
                        .act_cfg = p.act_cfg};
    conv_low_ = register_module("conv_low", std::make_shared<ConvModule>(o));
    o.in_channels = high;
    o.kernel_size = o.dilation = 1;
    o.padding = 0;
    conv_high_ = register_module("conv_high", std::make_shared<ConvModule>(o));
  }
  /// \return the sum, and the coarse map by itself, both at the size of `high`.
  std::array<torch::Tensor, 2> forward(const torch::Tensor& low, const torch::Tensor& high) {
    const auto coarse = conv_low_->forward(resize(low, map_size(high), align_corners_));
    return {(coarse + conv_high_->forward(high)).relu(), coarse};
  }

 private:
  bool align_corners_;
  std::shared_ptr<ConvModule> conv_low_, conv_high_;
};

}  // namespace

/// Joins the three maps of ICNet from the coarsest on.
///
/// Its outputs are the coarse part of the first sum and that of the second, which auxiliary heads
/// learn from, and the second sum. Unlike in the paper, a coarse part is convolved before it goes
/// to its head, as in MMSegmentation.
class ICNeck final : public Neck {
 public:
  using Params = ICNeckParams;
  static Schema<Params> schema() {
    return Schema<Params>("Joins the three maps of ICNet from the coarsest on.")
        .source("Zhao et al. 2017, arXiv:1704.08545")
        .optional("in_channels", &Params::in_channels,
                  "widths of the three input maps; null: those of the backbone")
        .optional("out_channels", &Params::out_channels, "width of all output maps", at_least(1))
        .optional("conv_cfg", &Params::conv_cfg, "convolutions; null: Conv2d")
        .optional("norm_cfg", &Params::norm_cfg, "norm after convolutions; null: none")
        .optional("act_cfg", &Params::act_cfg, "activation after convolutions; null: none")
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  ICNeck(const Params& p, const std::vector<FeatureInfo>& inputs) : Neck(p.init_cfg) {
    check_in_channels(p.in_channels, inputs);
    if (inputs.size() != 3) {
      throw OptionError("type", text("ICNeck joins 3 maps; the backbone gives ", inputs.size()));
    }
    cff_24_ = register_module(
        "cff_24", std::make_shared<CascadeFusion>(p, inputs[2].channels, inputs[1].channels));
    cff_12_ = register_module(
        "cff_12", std::make_shared<CascadeFusion>(p, p.out_channels, inputs[0].channels));
    for (const size_t i : {1, 0, 0}) {
      features_.push_back({.channels = p.out_channels, .stride = inputs[i].stride});
    }
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    const auto [sum_24, coarse_24] = cff_24_->forward(maps.at(2), maps.at(1));
    const auto [sum_12, coarse_12] = cff_12_->forward(sum_24, maps[0]);
    return {coarse_24, coarse_12, sum_12};
  }

 private:
  std::shared_ptr<CascadeFusion> cff_24_, cff_12_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, ICNeck);

}  // namespace seg
