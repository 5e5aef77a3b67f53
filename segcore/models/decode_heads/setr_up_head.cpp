#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Enlarges by a factor to a size cut down to whole pixels.
std::shared_ptr<Layer> setr_upsample(int64_t factor, bool align_corners) {
  return std::make_shared<Lambda>([factor, align_corners](const torch::Tensor& x) {
    return resize(x, {x.size(-2) * factor, x.size(-1) * factor}, align_corners);
  });
}

}  // namespace

struct SETRUPHeadParams : DecodeHeadParams {
  Spec<Norm> norm_layer = Spec<Norm>::of("{type: LN, eps: 1e-6, requires_grad: true}");
  int64_t num_convs = 1;
  int64_t up_scale = 4;
  int64_t kernel_size = 3;
  SETRUPHeadParams() {
    init_cfg = init_cfg_of(
        "[{type: Constant, val: 1.0, bias: 0, layer: LayerNorm},"
        " {type: Normal, std: 0.01, override: {name: conv_seg}}]");
  }
};

/// Convolutions and enlargements in turn: the naive and the PUP decoder of SETR.
///
/// SETR, Zheng et al. 2021, arXiv:2012.15840, section 3.3.
class SETRUPHead final : public DecodeHead {
 public:
  using Params = SETRUPHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Convolutions and enlargements in turn (SETR naive and PUP).")
        .source("SETR, Zheng et al. 2021, arXiv:2012.15840")
        .include(DecodeHead::base_schema())
        .optional("norm_layer", &P::norm_layer, "norm of the tokens")
        .optional("num_convs", &P::num_convs, "convolutions, each with an enlargement", at_least(0))
        .optional("up_scale", &P::up_scale, "factor of each enlargement", at_least(1))
        .optional("kernel_size", &P::kernel_size, "of the convolutions: 1 or 3")
        .validate([](const P& p, Problems& problems) {
          if (p.kernel_size != 1 && p.kernel_size != 3) {
            problems.error("kernel_size", text("must be 1 or 3, got ", p.kernel_size));
          }
          if (p.input_transform == "multiple_select") {
            problems.error("input_transform", "the head takes one map");
          }
        });
  }

  SETRUPHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    norm_ = register_module("norm", p.norm_layer.build(in_channels()));
    up_convs_ = register_module("up_convs", std::make_shared<ListOf<Sequential>>());
    int64_t width = in_channels();
    for (int64_t i = 0; i < p.num_convs; ++i) {
      auto stage = std::make_shared<Sequential>();
      stage->push_back(
          std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = width,
                                                         .out_channels = p.channels,
                                                         .kernel_size = p.kernel_size,
                                                         .padding = (p.kernel_size - 1) / 2,
                                                         .norm_cfg = p.norm_cfg,
                                                         .act_cfg = p.act_cfg}));
      stage->push_back(setr_upsample(p.up_scale, p.align_corners));
      up_convs_->push_back(stage);
      width = p.channels;
    }
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = select_one(features);
    x = nlc_to_nchw(norm_->forward(nchw_to_nlc(x)), map_size(x));
    for (const auto& stage : *up_convs_) x = stage->forward(x);
    return cls_seg(x);
  }

 private:
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<ListOf<Sequential>> up_convs_;
};
SEG_REGISTER(DecodeHead, SETRUPHead);

struct SETRMLAHeadParams : DecodeHeadParams {
  int64_t mla_channels = 128;
  int64_t up_scale = 4;
  SETRMLAHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
};

/// Two convolutions on each of several maps, enlarged and joined: the MLA decoder of SETR.
///
/// SETR, Zheng et al. 2021, arXiv:2012.15840, section 3.3.
class SETRMLAHead final : public DecodeHead {
 public:
  using Params = SETRMLAHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Two convolutions on each of several maps, enlarged and joined (SETR MLA).")
        .source("SETR, Zheng et al. 2021, arXiv:2012.15840")
        .include(DecodeHead::base_schema())
        .optional("mla_channels", &P::mla_channels, "width of each map", at_least(1))
        .optional("up_scale", &P::up_scale, "enlargement", at_least(1));
  }

  SETRMLAHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    const auto count = static_cast<int64_t>(inputs().size());
    if (p.channels != count * p.mla_channels) {
      throw OptionError("channels", text("is ", p.channels, ", must be ", count, " maps times ",
                                         p.mla_channels, " mla_channels"));
    }
    up_convs_ = register_module("up_convs", std::make_shared<ListOf<Sequential>>());
    for (const auto& input : inputs()) {
      auto stage = std::make_shared<Sequential>();
      for (const int64_t width : {input.channels, p.mla_channels}) {
        stage->push_back(
            std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = width,
                                                           .out_channels = p.mla_channels,
                                                           .kernel_size = 3,
                                                           .padding = 1,
                                                           .norm_cfg = p.norm_cfg,
                                                           .act_cfg = p.act_cfg}));
      }
      stage->push_back(setr_upsample(p.up_scale, p.align_corners));
      up_convs_->push_back(stage);
    }
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto maps = select(features);
    for (size_t i = 0; i < maps.size(); ++i) maps[i] = (*up_convs_)[i].forward(maps[i]);
    return cls_seg(at::cat(maps, 1));
  }

 private:
  std::shared_ptr<ListOf<Sequential>> up_convs_;
};
SEG_REGISTER(DecodeHead, SETRMLAHead);

}  // namespace seg
