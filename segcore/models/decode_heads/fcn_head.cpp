#include "segcore/models/decode_heads/fcn_head.hpp"

#include <torch/torch.h>

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
                "a last convolution sees the input beside the outcome")
      .optional("dilation", &Params::dilation, "of the convolutions", at_least(1));
}

Schema<FCNHeadParams> FCNHead::schema() {
  return Schema<Params>("Fully convolutional network: plain convolutions.")
      .source("Long et al. 2014, arXiv:1411.4038")
      .include(options());
}

std::shared_ptr<ConvModule> FCNHead::conv(int64_t in, int64_t out, int64_t kernel_size,
                                          int64_t dilation) const {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .padding = kernel_size / 2 * dilation,
                                                        .dilation = dilation,
                                                        .conv_cfg = params().conv_cfg,
                                                        .norm_cfg = params().norm_cfg,
                                                        .act_cfg = params().act_cfg});
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
      convs->push_back(conv(i == 0 ? in : p.channels, p.channels, p.kernel_size, p.dilation));
    }
    convs_ = convs;
  }
  register_module("convs", convs_);
  if (p.concat_input) {
    conv_cat_ = register_module("conv_cat", conv(in + p.channels, p.channels, p.kernel_size));
  }
}

torch::Tensor FCNHead::forward_feature(const std::vector<torch::Tensor>& features) {
  const auto x = select_one(features);
  const auto out = convs_->forward(x);
  return conv_cat_ ? conv_cat_->forward(at::cat({x, out}, 1)) : out;
}

torch::Tensor FCNHead::forward(const std::vector<torch::Tensor>& features) {
  return cls_seg(forward_feature(features));
}

SEG_REGISTER(DecodeHead, FCNHead);

}  // namespace seg
