#include <cmath>

#include "segcore/models/necks/neck_conv.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MultiLevelNeckParams : NeckConvParams {
  std::vector<double> scales{0.5, 1, 2, 4};
};

/// Makes a pyramid from maps of one size (of a plain vision transformer) by resizing them.
class MultiLevelNeck final : public Neck {
 public:
  using Params = MultiLevelNeckParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Makes a pyramid from maps of one size by resizing them.")
        .source("MMSegmentation, for vision transformers with pyramid heads")
        .include(NeckConvParams::schema())
        .optional(
            "scales", &P::scales,
            "factor of each output: of the only input map, or of the first input maps in order",
            above(0));
  }

  MultiLevelNeck(const Params& p, const std::vector<FeatureInfo>& inputs) : scales_(p.scales) {
    check_in_channels(p.in_channels, inputs);
    if (inputs.size() != 1 && inputs.size() < scales_.size()) {
      throw OptionError("scales", text("has ", scales_.size(), " factors for ", inputs.size(),
                                       " maps; one map, or one for each factor is needed"));
    }
    lateral_ = register_module("lateral_convs", std::make_shared<ListOf<ConvModule>>());
    convs_ = register_module("convs", std::make_shared<ListOf<ConvModule>>());
    for (const auto& input : inputs) {
      lateral_->push_back(lateral_conv(p, input.channels));
    }
    for (size_t i = 0; i < scales_.size(); ++i) {
      convs_->push_back(output_conv(p));
      const auto& input = inputs[inputs.size() == 1 ? 0 : i];
      const double stride = static_cast<double>(input.stride) / scales_[i];
      features_.push_back({p.out_channels, std::max<int64_t>(1, std::llround(stride))});
    }
  }

  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    std::vector<torch::Tensor> laterals, out;
    for (size_t i = 0; i < lateral_->size(); ++i) {
      laterals.push_back((*lateral_)[i].forward(maps.at(i)));
    }
    for (size_t i = 0; i < scales_.size(); ++i) {
      const auto& map = laterals[laterals.size() == 1 ? 0 : i];
      out.push_back((*convs_)[i].forward(resize_by(map, scales_[i])));
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  void init_weights() override {
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Conv2d*>(&m)) xavier_init(m, 1, 0, /*uniform_distribution=*/true);
    });
  }

 private:
  std::vector<double> scales_;
  std::shared_ptr<ListOf<ConvModule>> lateral_, convs_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, MultiLevelNeck);

}  // namespace seg
