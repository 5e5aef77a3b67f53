#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ASPPHeadParams : DecodeHeadParams {
  std::vector<int64_t> dilations{1, 6, 12, 18};
  int64_t bottleneck_kernel_size = 3;
  double bottleneck_dropout_ratio = 0;
};

/// Parallel dilated convolutions and a pooled copy, joined (DeepLabV3).
class ASPPHead : public DecodeHead {
 public:
  using Params = ASPPHeadParams;
  static Schema<Params> options() {
    return Schema<Params>("")
        .include(DecodeHead::base_schema())
        .optional("dilations", &Params::dilations, "one branch each; 1 is a 1x1 convolution",
                  at_least(1))
        .optional("bottleneck_kernel_size", &Params::bottleneck_kernel_size,
                  "of the convolution that joins the branches, odd", at_least(1))
        .optional("bottleneck_dropout_ratio", &Params::bottleneck_dropout_ratio,
                  "dropout of single values after it; dropout_ratio drops whole maps",
                  in_range(0, 1))
        .validate([](const Params& p, Problems& problems) {
          if (p.bottleneck_kernel_size % 2 == 0) {
            problems.error("bottleneck_kernel_size",
                           text("must be odd, got ", p.bottleneck_kernel_size));
          }
        });
  }
  static Schema<Params> schema() {
    return Schema<Params>("Parallel dilated convolutions and global pooling.")
        .source("DeepLabV3, Chen et al. 2017, arXiv:1706.05587")
        .include(options());
  }
  ASPPHead(const Params& p, const std::vector<FeatureInfo>& inputs) : ASPPHead(p, inputs, false) {}
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    return fuse(select_one(features));
  }

 protected:
  ASPPHead(const Params& p, const std::vector<FeatureInfo>& inputs, bool separable)
      : DecodeHead(p, inputs) {
    const int64_t in = in_channels();
    image_pool_ = register_module("image_pool", head_pool(head_conv(p, in, p.channels)));
    aspp_modules_ = register_module("aspp_modules", std::make_shared<ListOf<Layer>>());
    for (const int64_t dilation : p.dilations) {
      if (separable && dilation > 1) {
        aspp_modules_->push_back(separable_conv(p, in, dilation));
      } else {
        aspp_modules_->push_back(head_conv(p, in, p.channels, dilation == 1 ? 1 : 3, dilation));
      }
    }
    const auto branches = static_cast<int64_t>(p.dilations.size()) + 1;
    bottleneck_ = register_module(
        "bottleneck", head_conv(p, branches * p.channels, p.channels, p.bottleneck_kernel_size));
    bottleneck_dropout_ = register_module("bottleneck_dropout",
                                          std::make_shared<Dropout>(p.bottleneck_dropout_ratio));
  }

  static std::shared_ptr<Layer> separable_conv(const Params& p, int64_t in, int64_t dilation) {
    DepthwiseSeparableOptions o;
    o.in_channels = in;
    o.out_channels = p.channels;
    o.kernel_size = 3;
    o.padding = dilation;
    o.dilation = dilation;
    o.norm_cfg = p.norm_cfg;
    o.act_cfg = p.act_cfg;
    return std::make_shared<DepthwiseSeparableConvModule>(o);
  }

  /// [N, in_channels, H, W] -> [N, channels, H, W]
  torch::Tensor fuse(const torch::Tensor& x) {
    std::vector<torch::Tensor> maps{resize(image_pool_->forward(x), map_size(x), align_corners())};
    for (const auto& branch : *aspp_modules_) maps.push_back(branch->forward(x));
    return bottleneck_dropout_->forward(bottleneck_->forward(joined_maps(maps)));
  }

 private:
  std::shared_ptr<Sequential> image_pool_;
  std::shared_ptr<ListOf<Layer>> aspp_modules_;
  std::shared_ptr<ConvModule> bottleneck_;
  std::shared_ptr<Dropout> bottleneck_dropout_;
};

SEG_REGISTER(DecodeHead, ASPPHead);

// --- DeepLabV3+ ---------------------------------------------------------------------------------

struct DepthwiseSeparableASPPHeadParams : ASPPHeadParams {
  std::optional<int64_t> c1_in_channels;
  int64_t c1_channels = 48;
};

/// Separable dilated convolutions whose result is refined with the first map of the backbone.
class DepthwiseSeparableASPPHead final : public ASPPHead {
 public:
  using Params = DepthwiseSeparableASPPHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Separable dilated convolutions and a decoder with the first map.")
        .source("DeepLabV3+, Chen et al. 2018, arXiv:1802.02611")
        .include(ASPPHead::options())
        .optional("c1_in_channels", &Params::c1_in_channels,
                  "width of the first map (null: its own); 0 leaves it out", at_least(0))
        .optional("c1_channels", &Params::c1_channels, "width that the first map is reduced to",
                  at_least(0));
  }
  DepthwiseSeparableASPPHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : ASPPHead(p, inputs, true) {
    const int64_t given = p.c1_in_channels.value_or(inputs.at(0).channels);
    int64_t joined = p.channels;
    if (given > 0) {
      if (given != inputs.at(0).channels) {
        throw OptionError("c1_in_channels", text("is ", given, ", but the first map has ",
                                                 inputs.at(0).channels, " channels"));
      }
      c1_bottleneck_ = register_module("c1_bottleneck", head_conv(p, given, p.c1_channels));
      joined += p.c1_channels;
    }
    sep_bottleneck_ =
        register_module("sep_bottleneck",
                        std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                            separable_conv(p, joined, 1), separable_conv(p, p.channels, 1)}));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = fuse(select_one(features));
    if (c1_bottleneck_) {
      const auto fine = c1_bottleneck_->forward(features[0]);
      x = at::cat({resize(x, map_size(fine), align_corners()), fine}, 1);
    }
    return cls_seg(sep_bottleneck_->forward(x));
  }

 private:
  std::shared_ptr<ConvModule> c1_bottleneck_;  ///< null without the first map
  std::shared_ptr<Sequential> sep_bottleneck_;
};

SEG_REGISTER(DecodeHead, DepthwiseSeparableASPPHead);

}  // namespace seg
