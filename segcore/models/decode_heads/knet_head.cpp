#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/torch.hpp"

namespace seg {

// --- Kernel updator -----------------------------------------------------------------------------

/// Updates kernels with the features that they gathered.
class KernelUpdatorBase : public BaseModule {
 public:
  /// \param update  [N, K, in_channels], the features that each kernel gathered.
  /// \param kernels  [N, K, S, in_channels], S positions of each kernel.
  /// \return [N * K, S, out_channels]
  virtual torch::Tensor forward(const torch::Tensor& update, const torch::Tensor& kernels) = 0;
};

template <>
struct Category<KernelUpdatorBase> {
  static constexpr std::string_view name = "kernel updator";
  using Signature = std::shared_ptr<KernelUpdatorBase>();
};

struct KernelUpdatorParams {
  int64_t in_channels = 256;
  int64_t feat_channels = 64;
  std::optional<int64_t> out_channels;
  bool gate_sigmoid = true;
  bool gate_norm_act = false;
  bool activate_out = false;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: ReLU, inplace: true}");
};

class KernelUpdator final : public KernelUpdatorBase {
 public:
  using Params = KernelUpdatorParams;
  static Schema<Params> schema() {
    return Schema<Params>("Gates between kernels and the features they gathered.")
        .source("K-Net, Zhang et al. 2021, arXiv:2106.14855, section 3.2")
        .optional("in_channels", &Params::in_channels, "width of kernels and features", at_least(1))
        .optional("feat_channels", &Params::feat_channels, "width inside", at_least(1))
        .optional("out_channels", &Params::out_channels, "width given; null: in_channels",
                  at_least(1))
        .optional("gate_sigmoid", &Params::gate_sigmoid, "gates are sigmoids")
        .optional("gate_norm_act", &Params::gate_norm_act, "norm and activation before the gates")
        .optional("activate_out", &Params::activate_out, "activate the gated values")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the activations");
  }
  explicit KernelUpdator(const Params& p) : p_(p) {
    const int64_t in = p.in_channels, feat = p.feat_channels, out = p.out_channels.value_or(in);
    const auto linear = [this](const char* name, int64_t from, int64_t to) {
      return register_module(name, std::make_shared<Linear>(from, to));
    };
    const auto norm = [&](const char* name, int64_t width) {
      return register_module(name, p.norm_cfg.build(width));
    };
    dynamic_layer_ = linear("dynamic_layer", in, 2 * feat);
    input_layer_ = linear("input_layer", in, 2 * feat);
    input_gate_ = linear("input_gate", in, feat);
    update_gate_ = linear("update_gate", in, feat);
    if (p.gate_norm_act) gate_norm_ = norm("gate_norm", feat);
    norm_in_ = norm("norm_in", feat);
    norm_out_ = norm("norm_out", feat);
    input_norm_in_ = norm("input_norm_in", feat);
    input_norm_out_ = norm("input_norm_out", feat);
    activation_ = register_module("activation", p.act_cfg.build(false));
    fc_layer_ = linear("fc_layer", feat, out);
    fc_norm_ = norm("fc_norm", out);
    if (in != feat) {
      throw OptionError("feat_channels", text("must equal in_channels (", in, "), got ", feat));
    }
  }
  torch::Tensor forward(const torch::Tensor& update, const torch::Tensor& kernels) override {
    const int64_t feat = p_.feat_channels;
    const auto flat = update.reshape({-1, p_.in_channels});  // [N*K, C]
    const auto parameters = dynamic_layer_->forward(flat);
    const auto inputs = input_layer_->forward(kernels.reshape({flat.size(0), -1, feat}));
    auto gate = inputs.narrow(-1, 0, feat) * parameters.narrow(1, 0, feat).unsqueeze(1);
    if (gate_norm_) gate = activation_->forward(gate_norm_->forward(gate));
    auto input_gate = input_norm_in_->forward(input_gate_->forward(gate));
    auto update_gate = norm_in_->forward(update_gate_->forward(gate));
    if (p_.gate_sigmoid) {
      input_gate = input_gate.sigmoid();
      update_gate = update_gate.sigmoid();
    }
    auto from_update = norm_out_->forward(parameters.narrow(1, feat, feat));
    auto from_kernel = input_norm_out_->forward(inputs.narrow(-1, feat, feat));
    if (p_.activate_out) {
      from_update = activation_->forward(from_update);
      from_kernel = activation_->forward(from_kernel);
    }
    const auto out = update_gate * from_update.unsqueeze(1) + input_gate * from_kernel;
    return activation_->forward(fc_norm_->forward(fc_layer_->forward(out)));
  }

 private:
  Params p_;
  std::shared_ptr<Linear> dynamic_layer_, input_layer_, input_gate_, update_gate_, fc_layer_;
  std::shared_ptr<Norm> gate_norm_, norm_in_, norm_out_, input_norm_in_, input_norm_out_, fc_norm_;
  std::shared_ptr<Activation> activation_;
};

SEG_REGISTER(KernelUpdatorBase, KernelUpdator);

// --- One update ---------------------------------------------------------------------------------

/// Masks and kernels after one stage.
struct KernelUpdate {
  torch::Tensor masks;    ///< [N, K, H, W]
  torch::Tensor kernels;  ///< [N, K, C, k, k]
};

class KernelUpdateStage : public BaseModule {
 public:
  virtual KernelUpdate forward(const torch::Tensor& x, const KernelUpdate& before) = 0;
};

template <>
struct Category<KernelUpdateStage> {
  static constexpr std::string_view name = "kernel update head";
  using Signature = std::shared_ptr<KernelUpdateStage>();
};

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

// --- The head -----------------------------------------------------------------------------------

struct IterativeDecodeHeadParams {
  int64_t num_stages = 0;
  Spec<DecodeHead> kernel_generate_head;
  std::vector<Spec<KernelUpdateStage>> kernel_update_head;
  InitCfg init_cfg;
};

/// A head whose classifier's kernels are updated several times by the features they gather.
class IterativeDecodeHead final : public DecodeHead {
 public:
  using Params = IterativeDecodeHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("K-Net: kernels updated by the features they gather.")
        .source("Zhang et al. 2021, arXiv:2106.14855")
        .required("num_stages", &Params::num_stages, "updates", at_least(1))
        .required("kernel_generate_head", &Params::kernel_generate_head,
                  "the head whose classifier holds the first kernels")
        .required("kernel_update_head", &Params::kernel_update_head, "one for each update")
        .optional("init_cfg", &Params::init_cfg, "how weights are filled")
        .validate([](const Params& p, Problems& problems) {
          if (static_cast<int64_t>(p.kernel_update_head.size()) != p.num_stages) {
            problems.error("kernel_update_head",
                           text("needs ", p.num_stages, " entries (num_stages), got ",
                                p.kernel_update_head.size()));
          }
        });
  }
  static DecodeHeadFacts facts(const Params& p) {
    const DecodeHeadFacts head = p.kernel_generate_head.facts();
    return {head.num_classes, "kernel_generate_head." + head.option};
  }
  IterativeDecodeHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : IterativeDecodeHead(p, inputs, p.kernel_generate_head.build(inputs)) {}

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return stages(features).back();
  }
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    LossMap out;
    const auto logits = stages(features);
    for (size_t i = 0; i < logits.size(); ++i) {
      for (auto& [name, value] : generate_->loss_by_feat(logits[i], targets.labels)) {
        out.emplace_back(text(name, ".s", i), value);
      }
    }
    return out;
  }

 private:
  IterativeDecodeHead(const Params& p, const std::vector<FeatureInfo>& inputs,
                      std::shared_ptr<DecodeHead> generate)
      : DecodeHead(base_params(p, *generate), inputs) {
    if (!generate->conv_seg()) {
      throw OptionError("kernel_generate_head", "has no classifier of its own");
    }
    generate_ = register_module("kernel_generate_head", std::move(generate));
    update_ =
        register_module("kernel_update_head", std::make_shared<PlainListOf<KernelUpdateStage>>());
    for (const auto& spec : p.kernel_update_head) update_->push_back(spec.build());
  }

  static DecodeHeadParams base_params(const Params& p, const DecodeHead& generate) {
    DecodeHeadParams out;
    out.num_classes = generate.num_classes();
    out.align_corners = generate.align_corners();
    out.dropout_ratio = 0;
    out.init_cfg = p.init_cfg;
    return out;
  }

  /// The logits of the first head and of each update.
  std::vector<torch::Tensor> stages(const std::vector<torch::Tensor>& features) {
    const auto x = generate_->forward_feature(features);
    KernelUpdate state;
    state.masks = generate_->cls_seg(x);
    state.kernels = generate_->conv_seg()->weight.unsqueeze(0).expand({x.size(0), -1, -1, -1, -1});
    std::vector<torch::Tensor> out{state.masks};
    for (const auto& stage : *update_) {
      state = stage->forward(x, state);
      out.push_back(state.masks);
    }
    return out;
  }

  std::shared_ptr<DecodeHead> generate_;
  std::shared_ptr<PlainListOf<KernelUpdateStage>> update_;
};

SEG_REGISTER(DecodeHead, IterativeDecodeHead);

}  // namespace seg
