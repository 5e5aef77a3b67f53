#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SegmentHeadParams : ResizedMapsParams {
  std::string fusion = "concat";
  double scale_loss_weight = 0;
};

/// Convolves each map to one width, enlarges all to the size of the finest, joins them and
/// convolves the result: children `scale_convs`, `fusion_conv`.
///
/// The plainest head over several scales: that of SegFormer (Xie et al. 2021, arXiv:2105.15203)
/// with 3x3 convolutions, since the maps of convolutional networks are not mixed beforehand by
/// attention. With `scale_loss_weight` each scale also has a classifier, a child of `scale_segs`,
/// that only training uses, as in deeply supervised nets (Lee et al. 2014, arXiv:1409.5185).
class SegmentHead final : public DecodeHead {
 public:
  using Params = SegmentHeadParams;
  static Schema<Params> schema() {
    return resized_maps_schema<Params>(
               "Convolves maps of several scales to one width and joins them.")
        .source("SegFormer, Xie et al. 2021, arXiv:2105.15203, with 3x3 convolutions")
        .optional("fusion", &Params::fusion, "how maps are joined before the last convolution",
                  one_of({"concat", "sum"}))
        .optional("scale_loss_weight", &Params::scale_loss_weight,
                  "weight of the losses of a classifier for each scale; 0: there are none",
                  at_least(0))
        .validate(check_several_maps);
  }

  SegmentHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all), p_(p) {
    check_fine_to_coarse(inputs());
    scale_convs_ = register_module("scale_convs", std::make_shared<ListOf<ConvModule>>());
    for (const auto& input : inputs()) {
      scale_convs_->push_back(head_conv(p, input.channels, p.channels, 3));
    }
    const auto count = static_cast<int64_t>(inputs().size());
    const int64_t joined = p.fusion == "concat" ? count * p.channels : p.channels;
    fusion_conv_ = register_module("fusion_conv", head_conv(p, joined, p.channels, 3));
    if (p.scale_loss_weight == 0) return;
    scale_segs_ = register_module("scale_segs", std::make_shared<ListOf<Conv2d>>());
    for (int64_t i = 0; i < count; ++i) {
      scale_segs_->push_back(std::make_shared<Conv2d>(
          ConvOptions{.in_channels = p.channels, .out_channels = out_channels()}));
    }
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }

  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    return joined(convolved(features));
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto maps = convolved(features);
    LossMap out = loss_by_feat(cls_seg(joined(maps)), targets.labels);
    if (!scale_segs_) return out;
    for (size_t i = 0; i < maps.size(); ++i) {
      const auto logits = (*scale_segs_)[i].forward(maps[i]);
      for (const auto& [name, value] : loss_by_feat(logits, targets.labels)) {
        if (name.find("loss") == std::string::npos) continue;
        out.emplace_back(text(name, "_scale", i), p_.scale_loss_weight * value);
      }
    }
    return out;
  }

  void init_weights() override {
    DecodeHead::init_weights();
    if (!scale_segs_) return;
    for (const auto& conv : *scale_segs_) normal_init(*conv, 0, 0.01);  // as conv_seg
  }

 private:
  /// All maps at their own sizes, [N, channels, H_i, W_i].
  std::vector<torch::Tensor> convolved(const std::vector<torch::Tensor>& features) {
    auto maps = select(features);
    for (size_t i = 0; i < maps.size(); ++i) maps[i] = (*scale_convs_)[i].forward(maps[i]);
    return maps;
  }
  torch::Tensor joined(std::vector<torch::Tensor> maps) {
    const Size2 size = map_size(maps[0]);
    for (auto& map : maps) map = resize(map, size, align_corners(), p_.interpolate_mode);
    if (p_.fusion == "concat") return fusion_conv_->forward(joined_maps(maps));
    auto sum = maps[0];
    for (size_t i = 1; i < maps.size(); ++i) sum = sum + maps[i];
    return fusion_conv_->forward(sum);
  }

  Params p_;
  std::shared_ptr<ListOf<ConvModule>> scale_convs_;
  std::shared_ptr<ConvModule> fusion_conv_;
  std::shared_ptr<ListOf<Conv2d>> scale_segs_;  ///< null without losses of scales
};

SEG_REGISTER(DecodeHead, SegmentHead);

}  // namespace seg
