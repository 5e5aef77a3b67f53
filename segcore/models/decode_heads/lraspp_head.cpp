#include <algorithm>

#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct LRASPPHeadParams : DecodeHeadParams {
  std::vector<int64_t> branch_channels{32, 64};
};

/// The coarsest map, weighed by a pooled copy and refined by the finer ones.
class LRASPPHead final : public DecodeHead {
 public:
  using Params = LRASPPHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Lite reduced pyramid pooling of MobileNetV3.")
        .source("Howard et al. 2019, arXiv:1905.02244")
        .include(DecodeHead::base_schema())
        .optional("branch_channels", &Params::branch_channels,
                  "widths that the finer maps are reduced to, one each", at_least(1))
        .validate([](const Params& p, Problems& problems) {
          check_several_maps(p, problems);
          const auto* maps = std::get_if<std::vector<int64_t>>(&p.in_index);
          if (maps && maps->size() != p.branch_channels.size() + 1) {
            problems.error("branch_channels",
                           text("has ", p.branch_channels.size(), " values for ", maps->size(),
                                " maps: all but the last need one"));
          }
        });
  }
  LRASPPHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    const auto conv = [&](int64_t in, int64_t out, ActCfg act, NormCfg norm) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                            .out_channels = out,
                                                            .bias = false,
                                                            .norm_cfg = std::move(norm),
                                                            .act_cfg = std::move(act)});
    };
    convs_ = std::make_shared<Sequential>();
    conv_ups_ = std::make_shared<Sequential>();
    for (size_t i = 0; i < p.branch_channels.size(); ++i) {
      convs_->push_back(text("conv", i),
                        std::make_shared<Conv2d>(ConvOptions{.in_channels = inputs()[i].channels,
                                                             .out_channels = p.branch_channels[i],
                                                             .bias = false}));
      conv_ups_->push_back(text("conv_up", i), conv(p.channels + p.branch_channels[i], p.channels,
                                                    p.act_cfg, p.norm_cfg));
    }
    register_module("convs", convs_);
    register_module("conv_ups", conv_ups_);
    conv_up_input_ = register_module(
        "conv_up_input", std::make_shared<Conv2d>(
                             ConvOptions{.in_channels = p.channels, .out_channels = p.channels}));
    const int64_t deepest = inputs().back().channels;
    aspp_conv_ = register_module("aspp_conv", conv(deepest, p.channels, p.act_cfg, p.norm_cfg));
    image_pool_ = std::make_shared<Sequential>();
    image_pool_->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) {
      // Of 49x49 in steps of 16 and 20; maps that are smaller are pooled whole.
      return at::avg_pool2d(x, {std::min<int64_t>(49, x.size(2)), std::min<int64_t>(49, x.size(3))},
                            {16, 20});
    }));
    image_pool_->push_back(conv(deepest, p.channels, act_cfg_of("{type: Sigmoid}"), {}));
    register_module("image_pool", image_pool_);
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    auto x = maps.back();
    x = aspp_conv_->forward(x) * resize(image_pool_->forward(x), map_size(x), align_corners());
    x = conv_up_input_->forward(x);
    for (size_t i = convs_->size(); i-- > 0;) {
      x = resize(x, map_size(maps[i]), align_corners());
      x = (*conv_ups_)[i]->forward(joined_maps({x, (*convs_)[i]->forward(maps[i])}));
    }
    return cls_seg(x);
  }

 private:
  std::shared_ptr<Sequential> convs_, conv_ups_, image_pool_;
  std::shared_ptr<Conv2d> conv_up_input_;
  std::shared_ptr<ConvModule> aspp_conv_;
};

SEG_REGISTER(DecodeHead, LRASPPHead);

}  // namespace seg
