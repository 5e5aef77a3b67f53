#include "segcore/models/decode_heads/pre_norm_block.hpp"
#include "segcore/models/weights/conv_init.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DDRHeadParams : DecodeHeadParams {
  DDRHeadParams() { norm_cfg = norm_cfg_of("{type: BN}"); }
};

/// Classifies the joined map of DDRNet; in training also the map of its detail branch.
///
/// Hong et al. 2021, arXiv:2101.06085, section 3.4.
class DDRHead final : public DecodeHead {
 public:
  using Params = DDRHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Classifies the maps of DDRNet, each with a loss of its own.")
        .source("Hong et al. 2021, arXiv:2101.06085")
        .include(DecodeHead::base_schema())
        .validate([](const Params& p, Problems& problems) {
          check_head_of_branches(p, {"of the joined map", "of the detail branch's"}, problems);
        });
  }

  DDRHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs) {
    const int64_t in = in_channels();
    check_branches("DDRHead", inputs, in, 1);
    const std::array<std::string, 3> names{"0", "1", "2"};
    head_ = register_module("head", pre_norm_block(p, in, p.channels, names));
    aux_head_ = register_module("aux_head", pre_norm_block(p, in / 2, p.channels, names));
    aux_cls_seg_ = register_module(
        "aux_cls_seg",
        std::make_shared<Conv2d>(ConvOptions{
            .in_channels = p.channels, .out_channels = out_channels(), .kernel_size = 1}));
  }

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(head_->forward(features.at(1)));
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto loss = [&](size_t i, const torch::Tensor& logits) {
      return losses_of({losses_[i]}, /*sampler=*/nullptr, logits, targets.labels, ignore_index(),
                       align_corners());
    };
    const auto context = loss(0, forward(features));
    const auto detail = loss(1, aux_cls_seg_->forward(aux_head_->forward(features[0])));
    return {{"loss_context", context.at(0).second},
            {"loss_spatial", detail.at(0).second},
            context.at(1)};
  }

  void init_weights() override { kaiming_convs_init(*this); }

 private:
  std::shared_ptr<Sequential> head_, aux_head_;
  std::shared_ptr<Conv2d> aux_cls_seg_;
};

SEG_REGISTER(DecodeHead, DDRHead);

}  // namespace seg
