#include "segcore/models/decode_heads/fcn_head.hpp"

#include "segcore/models/nn/depthwise_act.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<FCNHeadParams> FCNHead::options(bool with_num_convs) {
  Schema<Params> schema("");
  schema.include(DecodeHead::base_schema());
  if (with_num_convs) {
    schema.optional("num_convs", &Params::num_convs, "convolutions before the classifier",
                    at_least(0));
  }
  return schema.optional("kernel_size", &Params::kernel_size, "of the convolutions", at_least(1))
      .optional("concat_input", &Params::concat_input,
                "a last convolution takes the input beside the result")
      .optional("dilation", &Params::dilation, "of the convolutions", at_least(1));
}

Schema<FCNHeadParams> FCNHead::schema() {
  return Schema<Params>("Fully convolutional network: plain convolutions.")
      .source("Long et al. 2014, arXiv:1411.4038")
      .include(options());
}

FCNHead::FCNHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs) {
  const int64_t in = in_channels();
  if (p.num_convs == 0) {
    if (in != p.channels) {
      throw OptionError("channels", text("without convolutions (num_convs: 0) must be the ", in,
                                         " channels of the input, got ", p.channels));
    }
    convs_ = std::make_shared<Identity>();
  } else {
    auto convs = std::make_shared<Sequential>();
    for (int64_t i = 0; i < p.num_convs; ++i) {
      const auto conv =
          head_conv(p, i == 0 ? in : p.channels, p.channels, p.kernel_size, p.dilation);
      if (i == 0) first_ = conv;
      convs->push_back(conv);
    }
    convs_ = convs;
  }
  register_module("convs", convs_);
  if (p.concat_input) {
    conv_cat_ = register_module<Layer>("conv_cat",
                                       head_conv(p, in + p.channels, p.channels, p.kernel_size));
  }
}

torch::Tensor FCNHead::forward_feature(const std::vector<torch::Tensor>& features) {
  if (first_ && !conv_cat_ && params().input_transform == "resize_concat") {
    const auto maps = chosen(features);
    auto x = first_->forward_resized(maps, map_size(maps[0]), align_corners());
    const auto& convs = dynamic_cast<Sequential&>(*convs_);
    for (size_t i = 1; i < convs.size(); ++i) x = convs[i]->forward(x);
    return x;
  }
  const auto x = select_one(features);
  const auto out = convs_->forward(x);
  return conv_cat_ ? conv_cat_->forward(joined_maps({x, out})) : out;
}

torch::Tensor FCNHead::forward(const std::vector<torch::Tensor>& features) {
  return cls_seg(forward_feature(features));
}

SEG_REGISTER(DecodeHead, FCNHead);

namespace {

FCNHeadParams with_two_convs(FCNHeadParams p) {
  p.num_convs = 2;
  return p;
}

}  // namespace

MiddleModuleHead::MiddleModuleHead(FCNHeadParams p, const std::vector<FeatureInfo>& inputs)
    : FCNHead(with_two_convs(std::move(p)), inputs) {}

torch::Tensor MiddleModuleHead::forward(const std::vector<torch::Tensor>& features) {
  const auto x = select_one(features);
  const auto& convs = dynamic_cast<Sequential&>(*convs_);
  const auto out = convs[1]->forward(middle(convs[0]->forward(x)));
  return cls_seg(conv_cat_ ? conv_cat_->forward(joined_maps({x, out})) : out);
}

// --- Depthwise separable ------------------------------------------------------------------------

struct DepthwiseSeparableFCNHeadParams : FCNHeadParams {
  DepthwiseActCfg dw_act_cfg;
};

/// An FCNHead of depthwise separable convolutions.
class DepthwiseSeparableFCNHead final : public FCNHead {
 public:
  using Params = DepthwiseSeparableFCNHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Fully convolutional network of depthwise separable convolutions.")
        .source("Fast-SCNN, Poudel et al. 2019, arXiv:1902.04502")
        .include(FCNHead::options())
        .optional("dw_act_cfg", &Params::dw_act_cfg,
                  "activation after depthwise convolutions; null: none; 'default': ReLU, as after "
                  "the others")
        .validate([](const Params& p, Problems& problems) {
          check_depthwise_act(p.dw_act_cfg, problems);
        });
  }
  DepthwiseSeparableFCNHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : FCNHead(p, inputs, OwnConvs{}) {
    if (p.num_convs < 1) throw OptionError("num_convs", "must be at least 1");
    // As in MMSegmentation, neither `dilation` nor `act_cfg` reaches these convolutions.
    const auto conv = [&](int64_t in) {
      DepthwiseSeparableOptions o;
      o.in_channels = in;
      o.out_channels = p.channels;
      o.kernel_size = p.kernel_size;
      o.padding = p.kernel_size / 2;
      o.norm_cfg = p.norm_cfg;
      o.dw_act_cfg = depthwise_act(p.dw_act_cfg);
      return std::make_shared<DepthwiseSeparableConvModule>(o);
    };
    auto convs = std::make_shared<Sequential>();
    for (int64_t i = 0; i < p.num_convs; ++i)
      convs->push_back(conv(i ? p.channels : in_channels()));
    convs_ = register_module("convs", convs);
    if (p.concat_input) {
      conv_cat_ = register_module<Layer>("conv_cat", conv(in_channels() + p.channels));
    }
  }
};

SEG_REGISTER(DecodeHead, DepthwiseSeparableFCNHead);

}  // namespace seg
