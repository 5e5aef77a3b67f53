#include <algorithm>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/necks/neck_conv.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MLANeckParams : NeckConvParams {
  Spec<Norm> norm_layer = Spec<Norm>::of("{type: LN, eps: 1e-6, requires_grad: true}");
};

/// Sums the maps of a vision transformer from the deepest on: children `norm.<i>`,
/// `mla.channel_proj.<i>`, `mla.feat_extract.<i>`.
///
/// SETR, Zheng et al. 2021, arXiv:2012.15840, section 3.3 (MLA).
class MLANeck final : public Neck {
 public:
  using Params = MLANeckParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Sums the maps of a vision transformer from the deepest on.")
        .source("SETR, Zheng et al. 2021, arXiv:2012.15840")
        .include(NeckConvParams::schema())
        .optional("norm_layer", &P::norm_layer, "norm of the tokens");
  }

  MLANeck(const Params& p, const std::vector<FeatureInfo>& inputs) {
    check_in_channels(p.in_channels, inputs);
    norms_ = register_module("norm", std::make_shared<ListOf<Norm>>());
    auto mla = register_module("mla", std::make_shared<ListOf<BaseModule>>());
    project_ = mla->register_module("channel_proj", std::make_shared<ListOf<ConvModule>>());
    extract_ = mla->register_module("feat_extract", std::make_shared<ListOf<ConvModule>>());
    for (const auto& input : inputs) {
      norms_->push_back(p.norm_layer.build(input.channels));
      project_->push_back(lateral_conv(p, input.channels));
      extract_->push_back(output_conv(p));
      features_.push_back({p.out_channels, input.stride});
    }
    std::reverse(features_.begin(), features_.end());
  }

  /// \return the deepest map first.
  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    std::vector<torch::Tensor> projected;
    for (size_t i = 0; i < norms_->size(); ++i) {
      const Size2 size{maps.at(i).size(2), maps.at(i).size(3)};
      const auto tokens = (*norms_)[i].forward(nchw_to_nlc(maps[i]));
      projected.push_back((*project_)[i].forward(nlc_to_nchw(tokens, size)));
    }
    std::vector<torch::Tensor> out;
    torch::Tensor sum;
    for (size_t i = 0; i < projected.size(); ++i) {
      const auto& map = projected[projected.size() - 1 - i];
      sum = sum.defined() ? sum + map : map;
      out.push_back((*extract_)[i].forward(sum));
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

 private:
  std::shared_ptr<ListOf<Norm>> norms_;
  std::shared_ptr<ListOf<ConvModule>> project_, extract_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, MLANeck);

}  // namespace seg
