#include "segcore/models/decode_heads/kernel_update_head.hpp"

#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/decode_heads/kernel_updator.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct KernelUpdateHeadParams {
  int64_t num_classes = 150;
  int64_t num_ffn_fcs = 2;
  int64_t num_heads = 8;
  int64_t num_mask_fcs = 3;
  int64_t feedforward_channels = 2048;
  int64_t in_channels = 256;
  int64_t out_channels = 256;
  double dropout = 0;
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: ReLU, inplace: true}");
  ActCfg ffn_act_cfg = act_cfg_of("{type: ReLU, inplace: true}");
  int64_t conv_kernel_size = 1;
  std::optional<ConvModuleCfg> feat_transform_cfg;
  bool with_ffn = true;
  int64_t feat_gather_stride = 1;
  int64_t mask_transform_stride = 1;
  Spec<KernelUpdatorBase> kernel_updator_cfg = Spec<KernelUpdatorBase>::of(
      "{type: KernelUpdator, in_channels: 256, feat_channels: 256, out_channels: 256}");
};

class KernelUpdateHead final : public KernelUpdateStage {
 public:
  using Params = KernelUpdateHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Gathers features by masks, updates kernels, convolves with them.")
        .source("K-Net, Zhang et al. 2021, arXiv:2106.14855")
        .optional("num_classes", &Params::num_classes, "classes, one kernel each", at_least(1))
        .optional("num_ffn_fcs", &Params::num_ffn_fcs, "layers of the feed-forward block",
                  at_least(2))
        .optional("num_heads", &Params::num_heads, "heads of the attention between kernels",
                  at_least(1))
        .optional("num_mask_fcs", &Params::num_mask_fcs, "layers before the kernels", at_least(0))
        .optional("feedforward_channels", &Params::feedforward_channels,
                  "width of the feed-forward block", at_least(1))
        .optional("in_channels", &Params::in_channels, "width of the features", at_least(1))
        .optional("out_channels", &Params::out_channels, "width of the kernels", at_least(1))
        .optional("dropout", &Params::dropout, "in attention and feed-forward block",
                  in_range(0, 1))
        .optional("act_cfg", &Params::act_cfg, "activation of the layers before the kernels")
        .optional("ffn_act_cfg", &Params::ffn_act_cfg, "activation of the feed-forward block")
        .optional("conv_kernel_size", &Params::conv_kernel_size, "side of the kernels", at_least(1))
        .optional("feat_transform_cfg", &Params::feat_transform_cfg,
                  "convolution of the features; null: none")
        .accepted("kernel_init", "K-Net does not initialise its kernel updates")
        .optional("with_ffn", &Params::with_ffn, "a feed-forward block follows the attention")
        .optional("feat_gather_stride", &Params::feat_gather_stride,
                  "stride of the features that are gathered", at_least(1))
        .optional("mask_transform_stride", &Params::mask_transform_stride,
                  "2: masks are made at half the size", in_range(1, 2))
        .optional("kernel_updator_cfg", &Params::kernel_updator_cfg, "how kernels are updated");
  }
  explicit KernelUpdateHead(const Params& p) : p_(p) {
    const int64_t width = p.in_channels * p.conv_kernel_size * p.conv_kernel_size;
    const auto norm = Spec<Norm>::of("{type: LN}");
    attention_ = register_module(
        "attention", std::make_shared<MultiheadAttention>(AttentionOptions{
                         .embed_dims = width, .num_heads = p.num_heads, .attn_drop = p.dropout}));
    attention_norm_ = register_module("attention_norm", norm.build(width));
    kernel_update_conv_ = register_module("kernel_update_conv", p.kernel_updator_cfg.build());
    if (p.feat_transform_cfg) {
      ConvModuleOptions o = p.feat_transform_cfg->options();
      o.in_channels = o.out_channels = p.in_channels;
      o.stride = p.feat_gather_stride;
      o.padding = p.feat_gather_stride / 2;
      if (p.in_channels % o.groups != 0) {
        throw OptionError("feat_transform_cfg",
                          text(o.groups, " groups do not divide in_channels ", p.in_channels));
      }
      feat_transform_ = register_module("feat_transform", std::make_shared<ConvModule>(o));
    }
    if (p.with_ffn) {
      ffn_ = register_module(
          "ffn", std::make_shared<FFN>(FFNOptions{.embed_dims = p.in_channels,
                                                  .feedforward_channels = p.feedforward_channels,
                                                  .num_fcs = p.num_ffn_fcs,
                                                  .act_cfg = p.ffn_act_cfg,
                                                  .ffn_drop = p.dropout}));
      ffn_norm_ = register_module("ffn_norm", norm.build(p.in_channels));
    }
    mask_fcs_ = register_module("mask_fcs", std::make_shared<ListOf<Layer>>());
    for (int64_t i = 0; i < p.num_mask_fcs; ++i) {
      mask_fcs_->push_back(std::make_shared<Linear>(p.in_channels, p.in_channels, false));
      mask_fcs_->push_back(norm.build(p.in_channels));
      mask_fcs_->push_back(p.act_cfg.build(false));
    }
    fc_mask_ = register_module("fc_mask", std::make_shared<Linear>(p.in_channels, p.out_channels));
  }

  KernelUpdate forward(const torch::Tensor& features, const KernelUpdate& before) override {
    const auto x = feat_transform_ ? feat_transform_->forward(features) : features;
    const int64_t images = before.kernels.size(0), count = before.kernels.size(1);
    const int64_t k = p_.conv_kernel_size;
    const auto masks = resize(before.masks, map_size(x)).softmax(1);
    const auto gathered =
        at::bmm(masks.flatten(2), x.flatten(2).transpose(1, 2));  // [N, K, C], equation 3
    auto kernels = before.kernels.reshape({images, count, p_.in_channels, -1}).transpose(2, 3);
    kernels = kernel_update_conv_->forward(gathered, kernels);  // [N*K, k*k, C]
    kernels = kernels.reshape({images, count, -1});
    kernels = attention_norm_->forward(attention_->forward(kernels));
    kernels = kernels.reshape({images, count, -1, p_.in_channels});  // [N, K, k*k, C]
    if (ffn_) kernels = ffn_norm_->forward(ffn_->forward(kernels));
    auto weights = kernels;
    for (const auto& layer : *mask_fcs_) weights = layer->forward(weights);
    weights = fc_mask_->forward(weights).transpose(2, 3);  // [N, K, C, k*k]
    weights = weights.reshape({images, count, x.size(1), k, k});
    const bool halves = p_.mask_transform_stride == 2;
    const auto seen = halves && p_.feat_gather_stride == 1 ? resize_by(x, 0.5) : x;
    std::vector<torch::Tensor> made;
    for (int64_t i = 0; i < images; ++i) {
      made.push_back(at::conv2d(seen.narrow(0, i, 1), weights[i], {}, 1, k / 2));
    }
    auto out = at::cat(made);
    if (halves) out = resize_by(out, 2);
    return {out, kernels.transpose(2, 3).reshape({images, count, p_.in_channels, k, k})};
  }

 private:
  Params p_;
  std::shared_ptr<MultiheadAttention> attention_;
  std::shared_ptr<Norm> attention_norm_, ffn_norm_;
  std::shared_ptr<KernelUpdatorBase> kernel_update_conv_;
  std::shared_ptr<ConvModule> feat_transform_;  ///< may be null
  std::shared_ptr<FFN> ffn_;                    ///< may be null
  std::shared_ptr<ListOf<Layer>> mask_fcs_;
  std::shared_ptr<Linear> fc_mask_;
};

SEG_REGISTER(KernelUpdateStage, KernelUpdateHead);

}  // namespace seg
