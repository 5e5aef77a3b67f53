#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SegformerHeadParams : ResizedMapsParams {
  bool linear_projection = false;
};

/// Brings all maps to one width and size and fuses them by a 1x1 convolution.
///
/// SegFormer, Xie et al. 2021, arXiv:2105.15203, section 3.2.
class SegformerHead final : public DecodeHead {
 public:
  using Params = SegformerHeadParams;
  static Schema<Params> schema() {
    return resized_maps_schema<Params>("Brings all maps to one width and size and fuses them.")
        .source("SegFormer, Xie et al. 2021, arXiv:2105.15203")
        .optional("linear_projection", &Params::linear_projection,
                  "maps are brought to one width by linear layers alone, without norm and "
                  "activation, as in NVlabs' repository and in transformers");
  }

  SegformerHead(const Params& p, const std::vector<FeatureInfo>& all)
      : DecodeHead(p, all), mode_(p.interpolate_mode) {
    convs_ = register_module("convs", std::make_shared<ListOf<ConvModule>>());
    for (const auto& input : inputs()) {
      ConvModuleOptions projection{.in_channels = input.channels, .out_channels = p.channels};
      if (!p.linear_projection) projection.norm_cfg = p.norm_cfg;
      projection.act_cfg = p.linear_projection ? std::nullopt : p.act_cfg;
      convs_->push_back(std::make_shared<ConvModule>(projection));
    }
    const auto count = static_cast<int64_t>(inputs().size());
    fusion_conv_ = register_module("fusion_conv", std::make_shared<ConvModule>(ConvModuleOptions{
                                                      .in_channels = p.channels * count,
                                                      .out_channels = p.channels,
                                                      .norm_cfg = p.norm_cfg}));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto maps = select(features);
    const Size2 size = map_size(maps[0]);
    for (size_t i = 0; i < maps.size(); ++i) maps[i] = (*convs_)[i].forward(maps[i]);
    return cls_seg(fusion_conv_->forward_resized(maps, size, align_corners(), mode_));
  }

 private:
  std::string mode_;
  std::shared_ptr<ListOf<ConvModule>> convs_;
  std::shared_ptr<ConvModule> fusion_conv_;
};

SEG_REGISTER(DecodeHead, SegformerHead);

}  // namespace seg
