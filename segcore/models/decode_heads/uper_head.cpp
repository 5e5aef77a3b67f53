#include "segcore/models/blocks/ppm.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct UPerHeadParams : DecodeHeadParams {
  std::vector<int64_t> pool_scales{1, 2, 3, 6};
  UPerHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
};

/// A pooling pyramid on the coarsest map, then a feature pyramid down to the finest.
///
/// UPerNet, Xiao et al. 2018, arXiv:1807.10221.
class UPerHead final : public DecodeHead {
 public:
  using Params = UPerHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("A pooling pyramid on the coarsest map, then a feature pyramid.")
        .source("UPerNet, Xiao et al. 2018, arXiv:1807.10221")
        .include(DecodeHead::base_schema())
        .optional("pool_scales", &Params::pool_scales, "sizes that the coarsest map is pooled to",
                  at_least(1));
  }

  UPerHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    const auto conv = [&p](int64_t in, int64_t kernel, bool inplace) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                            .out_channels = p.channels,
                                                            .kernel_size = kernel,
                                                            .padding = kernel / 2,
                                                            .conv_cfg = p.conv_cfg,
                                                            .norm_cfg = p.norm_cfg,
                                                            .act_cfg = p.act_cfg,
                                                            .inplace = inplace});
    };
    const auto& maps = inputs();
    const auto levels = static_cast<int64_t>(maps.size());
    const auto scales = static_cast<int64_t>(p.pool_scales.size());
    psp_modules_ = register_module(
        "psp_modules", std::make_shared<PPM>(PPMOptions{.pool_scales = p.pool_scales,
                                                        .in_channels = maps.back().channels,
                                                        .channels = p.channels,
                                                        .conv_cfg = p.conv_cfg,
                                                        .norm_cfg = p.norm_cfg,
                                                        .act_cfg = p.act_cfg,
                                                        .align_corners = p.align_corners}));
    bottleneck_ =
        register_module("bottleneck", conv(maps.back().channels + scales * p.channels, 3, true));
    lateral_convs_ = register_module("lateral_convs", std::make_shared<ListOf<ConvModule>>());
    fpn_convs_ = register_module("fpn_convs", std::make_shared<ListOf<ConvModule>>());
    for (size_t i = 0; i + 1 < maps.size(); ++i) {
      lateral_convs_->push_back(conv(maps[i].channels, 1, false));
      fpn_convs_->push_back(conv(p.channels, 3, false));
    }
    fpn_bottleneck_ = register_module("fpn_bottleneck", conv(levels * p.channels, 3, true));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }

  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    std::vector<torch::Tensor> levels;
    for (size_t i = 0; i + 1 < maps.size(); ++i) {
      levels.push_back((*lateral_convs_)[i].forward(maps[i]));
    }
    std::vector<torch::Tensor> pooled{maps.back()};
    for (auto& map : psp_modules_->forward(maps.back())) pooled.push_back(map);
    levels.push_back(bottleneck_->forward(joined_maps(pooled)));
    for (size_t i = levels.size() - 1; i > 0; --i) {
      levels[i - 1] = levels[i - 1] + resize(levels[i], map_size(levels[i - 1]), align_corners());
    }
    for (size_t i = 0; i + 1 < levels.size(); ++i) {
      levels[i] = (*fpn_convs_)[i].forward(levels[i]);
    }
    for (size_t i = 1; i < levels.size(); ++i) {
      levels[i] = resize(levels[i], map_size(levels[0]), align_corners());
    }
    return fpn_bottleneck_->forward(joined_maps(levels));
  }

 private:
  std::shared_ptr<PPM> psp_modules_;
  std::shared_ptr<ConvModule> bottleneck_, fpn_bottleneck_;
  std::shared_ptr<ListOf<ConvModule>> lateral_convs_, fpn_convs_;
};

SEG_REGISTER(DecodeHead, UPerHead);

}  // namespace seg
