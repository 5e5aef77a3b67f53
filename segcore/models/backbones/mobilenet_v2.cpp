#include <array>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/inverted_residual.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MobileNetV2Params {
  double widen_factor = 1.0;
  std::vector<int64_t> strides{1, 2, 2, 2, 1, 2, 1};
  std::vector<int64_t> dilations{1, 1, 1, 1, 1, 1, 1};
  std::vector<int64_t> out_indices{1, 2, 4, 6};
  int64_t frozen_stages = -1;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = act_cfg_of("{type: ReLU6}");
  bool norm_eval = false;
  bool with_cp = false;
  int64_t in_channels = 3;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

/// Inverted residuals: narrow maps between wide depthwise convolutions.
class MobileNetV2 final : public Backbone {
 public:
  using Params = MobileNetV2Params;
  static Schema<Params> schema() {
    return Schema<Params>("Inverted residuals for small machines.")
        .source("Sandler et al. 2018, arXiv:1801.04381")
        .optional("widen_factor", &Params::widen_factor, "factor of all widths", above(0))
        .optional("strides", &Params::strides, "stride of each of the 7 stages", in_range(1, 2))
        .optional("dilations", &Params::dilations,
                  "dilation of the first block of each of the 7 stages", at_least(1))
        .optional("out_indices", &Params::out_indices, "stages whose maps are given",
                  in_range(0, 6))
        .optional("frozen_stages", &Params::frozen_stages,
                  "the stem and so many stages are not trained; -1: none", in_range(-1, 6))
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .optional("norm_eval", &Params::norm_eval, "batch norms keep their running statistics")
        .optional("with_cp", &Params::with_cp,
                  "recompute blocks in the backward pass to save memory")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("pretrained", &Params::pretrained,
                  "checkpoint to begin with; `init_cfg` is newer")
        .optional("init_cfg", &Params::init_cfg, "how weights are filled")
        .validate([](const Params& p, Problems& problems) {
          if (p.strides.size() != kStages.size()) {
            problems.error("strides", text("needs 7 values, got ", p.strides.size()));
          }
          if (p.dilations.size() != kStages.size()) {
            problems.error("dilations", text("needs 7 values, got ", p.dilations.size()));
          }
          if (p.pretrained && p.init_cfg) {
            problems.error("pretrained", "cannot be combined with init_cfg");
          }
        });
  }

  explicit MobileNetV2(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), p_(p) {
    int64_t in = make_divisible(32 * p.widen_factor, 8), stride = 2;
    conv1_ = register_module(
        "conv1", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.in_channels,
                                                                .out_channels = in,
                                                                .kernel_size = 3,
                                                                .stride = 2,
                                                                .padding = 1,
                                                                .conv_cfg = p.conv_cfg,
                                                                .norm_cfg = p.norm_cfg,
                                                                .act_cfg = p.act_cfg}));
    for (size_t i = 0; i < kStages.size(); ++i) {
      const auto [expand_ratio, channels, blocks] = kStages[i];
      const int64_t out = make_divisible(static_cast<double>(channels) * p.widen_factor, 8);
      auto layer = std::make_shared<Sequential>();
      for (int64_t b = 0; b < blocks; ++b) {
        layer->push_back(std::make_shared<InvertedResidual>(
            InvertedResidualOptions{.in_channels = b == 0 ? in : out,
                                    .out_channels = out,
                                    .stride = b == 0 ? p.strides[i] : 1,
                                    .expand_ratio = static_cast<double>(expand_ratio),
                                    .dilation = b == 0 ? p.dilations[i] : 1,
                                    .conv_cfg = p.conv_cfg,
                                    .norm_cfg = p.norm_cfg,
                                    .act_cfg = p.act_cfg,
                                    .with_cp = p.with_cp}));
      }
      in = out;
      stride *= p.strides[i];
      layers_.push_back(register_module(text("layer", i + 1), layer));
      if (gives_stage(p_.out_indices, i)) features_.push_back({.channels = out, .stride = stride});
    }
    freeze_stages();
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto x = conv1_->forward(images);
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < layers_.size(); ++i) {
      x = layers_[i]->forward(x);
      if (gives_stage(p_.out_indices, i)) out.push_back(x);
    }
    return out;
  }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze_stages();
    if (on && p_.norm_eval) freeze_batch_norms(*this);
  }

 private:
  struct Stage {
    int64_t expand_ratio, channels, blocks;
  };
  static constexpr std::array<Stage, 7> kStages{{{1, 16, 1},
                                                 {6, 24, 2},
                                                 {6, 32, 3},
                                                 {6, 64, 4},
                                                 {6, 96, 3},
                                                 {6, 160, 3},
                                                 {6, 320, 1}}};  // table 2

  void freeze_stages() {
    if (p_.frozen_stages < 0) return;
    // As in MMSegmentation, the norm of the stem goes on counting.
    for (auto& parameter : conv1_->parameters()) parameter.set_requires_grad(false);
    for (int64_t i = 0; i < p_.frozen_stages; ++i) freeze_module(*layers_[i]);
  }

  Params p_;
  std::shared_ptr<ConvModule> conv1_;
  std::vector<std::shared_ptr<Sequential>> layers_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, MobileNetV2);

}  // namespace seg
