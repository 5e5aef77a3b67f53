#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct FusionHeadParams : ResizedMapsParams {
  std::string weighting = "fast";
  int64_t num_convs = 2;
};

/// Projects each map to one width, adds them by learned weights whose sum is 1, and refines the
/// sum: children `projections`, `refine`, parameter `fusion_weights`.
///
/// The fusion of BiFPN (Tan et al. 2019, arXiv:1911.09070, section 3.2) of all stages at once, at
/// the size of the finest. All stages begin with one weight.
class FusionHead final : public DecodeHead {
 public:
  using Params = FusionHeadParams;
  static Schema<Params> schema() {
    return resized_maps_schema<Params>("Adds maps by learned weights and refines the sum.")
        .source("EfficientDet, Tan et al. 2019, arXiv:1911.09070, section 3.2")
        .optional("weighting", &Params::weighting,
                  "how weights are brought to the sum 1: fast, divided by it after a ReLU; softmax",
                  one_of({"fast", "softmax"}))
        .optional("num_convs", &Params::num_convs, "3x3 convolutions that refine the sum",
                  at_least(0))
        .validate(check_several_maps);
  }

  FusionHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all), p_(p) {
    check_fine_to_coarse(inputs());
    const auto count = static_cast<int64_t>(inputs().size());
    fusion_weights_ = register_parameter("fusion_weights", torch::ones({count}));
    projections_ = register_module("projections", std::make_shared<ListOf<ConvModule>>());
    for (const auto& input : inputs()) {
      projections_->push_back(head_conv(p, input.channels, p.channels));
    }
    refine_ = register_module("refine", std::make_shared<Sequential>());
    for (int64_t i = 0; i < p.num_convs; ++i) {
      refine_->push_back(head_conv(p, p.channels, p.channels, 3));
    }
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }

  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    const Size2 size = map_size(maps[0]);
    const auto weights = shares().unbind();
    torch::Tensor sum;
    for (size_t i = 0; i < maps.size(); ++i) {
      const auto map = weights[i] * resize((*projections_)[i].forward(maps[i]), size,
                                           align_corners(), p_.interpolate_mode);
      sum = sum.defined() ? sum + map : map;
    }
    return refine_->forward(sum);
  }

  void init_weights() override {
    DecodeHead::init_weights();
    const torch::NoGradGuard no_grad;
    fusion_weights_.fill_(1);
  }

 private:
  /// The weight of each map.
  torch::Tensor shares() const {
    if (p_.weighting == "softmax") return fusion_weights_.softmax(0);
    const double eps = 1e-4;  // as the paper
    const auto positive = fusion_weights_.relu();
    return positive / (positive.sum() + eps);
  }

  Params p_;
  torch::Tensor fusion_weights_;  ///< [maps]
  std::shared_ptr<ListOf<ConvModule>> projections_;
  std::shared_ptr<Sequential> refine_;
};

SEG_REGISTER(DecodeHead, FusionHead);

}  // namespace seg
