#include "segcore/models/blocks/ppm.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PSPHeadParams : DecodeHeadParams {
  std::vector<int64_t> pool_scales{1, 2, 3, 6};
};

/// Joins a map with copies of it that are pooled to a few sizes.
class PSPHead final : public DecodeHead {
 public:
  using Params = PSPHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Pyramid scene parsing: the map and its pooled copies.")
        .source("Zhao et al. 2017, arXiv:1612.01105")
        .include(DecodeHead::base_schema())
        .optional("pool_scales", &Params::pool_scales, "sides of the pooled maps", at_least(1));
  }
  PSPHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs) {
    psp_modules_ = register_module(
        "psp_modules", std::make_shared<PPM>(PPMOptions{.pool_scales = p.pool_scales,
                                                        .in_channels = in_channels(),
                                                        .channels = p.channels,
                                                        .conv_cfg = p.conv_cfg,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg,
                                                        .align_corners = p.align_corners}));
    const auto scales = static_cast<int64_t>(p.pool_scales.size());
    bottleneck_ =
        register_module("bottleneck", std::make_shared<ConvModule>(ConvModuleOptions{
                                          .in_channels = in_channels() + scales * p.channels,
                                          .out_channels = p.channels,
                                          .kernel_size = 3,
                                          .padding = 1,
                                          .conv_cfg = p.conv_cfg,
                                          .norm_cfg = p.norm_cfg,
                                          .act_cfg = p.act_cfg}));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    std::vector<torch::Tensor> maps{select_one(features)};
    for (auto& pooled : psp_modules_->forward(maps[0])) maps.push_back(std::move(pooled));
    return bottleneck_->forward(joined_maps(maps));
  }

 private:
  std::shared_ptr<PPM> psp_modules_;
  std::shared_ptr<ConvModule> bottleneck_;
};

SEG_REGISTER(DecodeHead, PSPHead);

}  // namespace seg
