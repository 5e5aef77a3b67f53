#include "segcore/models/neck.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct JPUParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t mid_channels = 512;
  int64_t start_level = 0;
  int64_t end_level = -1;
  std::vector<int64_t> dilations{1, 2, 4, 8};
  bool align_corners = false;
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  InitCfg init_cfg;
};

/// Joins the last maps of an undilated backbone at the size of the finest by dilated convolutions:
/// children `conv_layers.<i>.0`, `dilation_layers.<i>.0`.
///
/// It gives the maps before the last one as they are, then the joint map.
class JPU final : public Neck {
 public:
  using Params = JPUParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Joint pyramid upsampling: a map of stride 8 without a dilated backbone.")
        .source("FastFCN, Wu et al. 2019, arXiv:1903.11816")
        .optional("in_channels", &P::in_channels,
                  "widths of all input maps; null: those of the backbone")
        .optional("mid_channels", &P::mid_channels,
                  "width of each branch; the joint map has one branch per dilation", at_least(1))
        .optional("start_level", &P::start_level, "first map used", at_least(0))
        .optional("end_level", &P::end_level, "map to stop before; -1: all", at_least(-1))
        .optional("dilations", &P::dilations, "one branch per rate", at_least(1))
        .optional("align_corners", &P::align_corners, "how resizing maps corners")
        .optional("conv_cfg", &P::conv_cfg, "convolutions before the upsampling; null: Conv2d")
        .optional("norm_cfg", &P::norm_cfg, "norm after convolutions; null: none")
        .optional("act_cfg", &P::act_cfg, "activation after convolutions; null: none")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          if (p.dilations.empty()) problems.error("dilations", "must name at least one rate");
        });
  }

  JPU(const Params& p, const std::vector<FeatureInfo>& inputs)
      : Neck(p.init_cfg),
        start_(static_cast<size_t>(p.start_level)),
        end_(p.end_level == -1 ? inputs.size() : static_cast<size_t>(p.end_level)),
        align_corners_(p.align_corners) {
    check_in_channels(p.in_channels, inputs);
    if (end_ > inputs.size() || start_ >= end_) {
      throw OptionError("end_level", text("levels ", start_, " to ", end_, " of ", inputs.size(),
                                          " maps cannot be chosen"));
    }
    convs_ = register_module("conv_layers", std::make_shared<PlainListOf<Sequential>>());
    branches_ = register_module("dilation_layers", std::make_shared<PlainListOf<Sequential>>());
    for (size_t i = start_; i < end_; ++i) {
      auto layer = std::make_shared<Sequential>();
      layer->push_back(
          std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = inputs[i].channels,
                                                         .out_channels = p.mid_channels,
                                                         .kernel_size = 3,
                                                         .padding = 1,
                                                         .conv_cfg = p.conv_cfg,
                                                         .norm_cfg = p.norm_cfg,
                                                         .act_cfg = p.act_cfg}));
      convs_->push_back(layer);
      if (i + 1 < end_) features_.push_back(inputs[i]);
    }
    DepthwiseSeparableOptions branch;
    branch.in_channels = static_cast<int64_t>(end_ - start_) * p.mid_channels;
    branch.out_channels = p.mid_channels;
    branch.kernel_size = 3;
    branch.norm_cfg = p.norm_cfg;
    branch.act_cfg = p.act_cfg;
    branch.dw_act_cfg = ActCfg();
    for (const int64_t dilation : p.dilations) {
      branch.padding = branch.dilation = dilation;
      auto layer = std::make_shared<Sequential>();
      layer->push_back(std::make_shared<DepthwiseSeparableConvModule>(branch));
      branches_->push_back(layer);
    }
    features_.push_back({.channels = static_cast<int64_t>(p.dilations.size()) * p.mid_channels,
                         .stride = inputs[start_].stride});
  }

  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps) override {
    std::vector<torch::Tensor> levels, joint;
    for (size_t i = start_; i < end_; ++i) {
      auto level = (*convs_)[i - start_].forward(maps.at(i));
      levels.push_back(levels.empty() ? level : resize(level, map_size(levels[0]), align_corners_));
    }
    const auto all = at::cat(levels, 1);
    for (const auto& branch : *branches_) joint.push_back(branch->forward(all));
    std::vector<torch::Tensor> out(maps.begin() + static_cast<std::ptrdiff_t>(start_),
                                   maps.begin() + static_cast<std::ptrdiff_t>(end_) - 1);
    out.push_back(at::cat(joint, 1));
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

 private:
  size_t start_, end_;
  bool align_corners_;
  std::shared_ptr<PlainListOf<Sequential>> convs_, branches_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Neck, JPU);

}  // namespace seg
