#include "segcore/models/backbones/mobilenet.hpp"
#include "segcore/models/blocks/inverted_residual.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MobileNetV2Params : MobileNetParams {
  MobileNetV2Params() { out_indices = {1, 2, 4, 6}; }
  double widen_factor = 1.0;
  std::vector<int64_t> strides{1, 2, 2, 2, 1, 2, 1};
  std::vector<int64_t> dilations{1, 1, 1, 1, 1, 1, 1};
  ActCfg act_cfg = act_cfg_of("{type: ReLU6}");
};

/// Inverted residuals: narrow maps between wide depthwise convolutions.
class MobileNetV2 final : public MobileNet {
 public:
  using Params = MobileNetV2Params;
  static Schema<Params> schema() {
    return Schema<Params>("Inverted residuals for small machines.")
        .source("Sandler et al. 2018, arXiv:1801.04381")
        .optional("widen_factor", &Params::widen_factor, "factor of all widths", above(0))
        .optional("strides", &Params::strides, "stride of each of the 7 stages", in_range(1, 2))
        .optional("dilations", &Params::dilations,
                  "dilation of the first block of each of the 7 stages", at_least(1))
        .optional("out_indices", &Params::out_indices, "stages whose maps are returned",
                  in_range(0, 6))
        .optional("frozen_stages", &Params::frozen_stages,
                  "stages to freeze, with the stem; 0: only the stem; -1: nothing", in_range(-1, 6))
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .include(MobileNetParams::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.strides.size() != kMobileNetV2Stages.size()) {
            problems.error("strides", text("needs 7 values, got ", p.strides.size()));
          }
          if (p.dilations.size() != kMobileNetV2Stages.size()) {
            problems.error("dilations", text("needs 7 values, got ", p.dilations.size()));
          }
        });
  }

  explicit MobileNetV2(const Params& p) : MobileNet(p), frozen_stages_(p.frozen_stages) {
    int64_t in = make_divisible(kMobileNetV2Stem * p.widen_factor, 8), stride = 2;
    conv1_ = register_module("conv1", make_stem(in, p.conv_cfg, p.act_cfg));
    for (size_t i = 0; i < kMobileNetV2Stages.size(); ++i) {
      const auto& stage = kMobileNetV2Stages[i];
      const int64_t out = make_divisible(static_cast<double>(stage.channels) * p.widen_factor, 8);
      auto layer = std::make_shared<Sequential>();
      for (int64_t b = 0; b < stage.blocks; ++b) {
        layer->push_back(std::make_shared<InvertedResidual>(
            InvertedResidualOptions{.in_channels = b == 0 ? in : out,
                                    .out_channels = out,
                                    .stride = b == 0 ? p.strides[i] : 1,
                                    .expand_ratio = static_cast<double>(stage.expand_ratio),
                                    .dilation = b == 0 ? p.dilations[i] : 1,
                                    .conv_cfg = p.conv_cfg,
                                    .norm_cfg = p.norm_cfg,
                                    .act_cfg = p.act_cfg,
                                    .with_cp = p.with_cp}));
      }
      in = out;
      stride *= p.strides[i];
      add(text("layer", i + 1), layer, out, stride);
    }
    freeze_stages();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    return MobileNet::forward(conv1_->forward(images));
  }

 private:
  void freeze_stages() override {
    if (frozen_stages_ < 0) return;
    // As in MMSegmentation, the norm of the stem still updates its running statistics.
    for (auto& parameter : conv1_->parameters()) parameter.set_requires_grad(false);
    freeze_layers(frozen_stages_);
  }

  int64_t frozen_stages_;
  std::shared_ptr<ConvModule> conv1_;
};

SEG_REGISTER(Backbone, MobileNetV2);

}  // namespace seg
