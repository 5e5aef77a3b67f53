#include <array>

#include "registry/changed_spec.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct CGNetParams {
  int64_t in_channels = 3;
  std::array<int64_t, 3> num_channels{32, 64, 128};
  std::array<int64_t, 2> num_blocks{3, 21};
  std::array<int64_t, 2> dilations{2, 4};
  std::array<int64_t, 2> reductions{8, 16};
  ConvCfg conv_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN, requires_grad: true}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: PReLU}");
  bool norm_eval = false;
  bool with_cp = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

InitCfg cgnet_init(const CGNetParams& p) {
  if (p.pretrained) return with_pretrained(p.init_cfg, p.pretrained);
  if (p.init_cfg) return p.init_cfg;
  return init_cfg_of(
      "[{type: Kaiming, layer: [Conv2d, Linear]}, "
      "{type: Constant, val: 1, layer: [_BatchNorm, GroupNorm]}, "
      "{type: Constant, val: 0, layer: PReLU}]");
}

/// A PReLU with a slope for each channel.
std::shared_ptr<Activation> channel_prelu(int64_t channels) {
  return Spec<Activation>::of(text("{type: PReLU, num_parameters: ", channels, "}")).build(false);
}

/// The `act_cfg` of a convolution; a PReLU has a slope for each channel, whatever the config says.
ActCfg cgnet_act(const CGNetParams& p, int64_t channels) {
  if (p.act_cfg.type() != "PReLU") return p.act_cfg;
  Config c = p.act_cfg.config();
  c.set("num_parameters", Config::of(channels));
  return changed_spec(p.act_cfg, c);
}

std::shared_ptr<ConvModule> cgnet_conv(const CGNetParams& p, int64_t in, int64_t out,
                                       int64_t kernel_size, int64_t stride) {
  return padded_conv(in, out, kernel_size, stride, p.norm_cfg, cgnet_act(p, out), /*groups=*/1,
                     p.conv_cfg);
}

/// Weighs each channel by what two linear layers make of the means of all: child `fc`.
class GlobalContext final : public Layer {
 public:
  GlobalContext(int64_t channels, int64_t reduction) {
    fc_ = std::make_shared<Sequential>();
    fc_->push_back(std::make_shared<Linear>(channels, channels / reduction));
    fc_->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
    fc_->push_back(std::make_shared<Linear>(channels / reduction, channels));
    register_module("fc", fc_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto means = at::adaptive_avg_pool2d(x, {1, 1}).flatten(1);  // [N, C]
    return x * fc_->forward(means).sigmoid().unsqueeze(-1).unsqueeze(-1);
  }

 private:
  std::shared_ptr<Sequential> fc_;
};

/// Joins what a plain and a dilated depthwise convolution see, and weighs it by its means.
class ContextGuidedBlock final : public Layer {
 public:
  ContextGuidedBlock(const CGNetParams& p, size_t stage, int64_t in, bool first)
      : with_cp_(p.with_cp), first_(first) {
    const int64_t out = p.num_channels[stage + 1], channels = first ? out : out / 2;
    conv1x1_ = register_module(
        "conv1x1", first ? cgnet_conv(p, in, channels, 3, 2) : cgnet_conv(p, in, channels, 1, 1));
    const auto depthwise = [&](int64_t dilation) {
      return build_conv(p.conv_cfg, {.in_channels = channels,
                                     .out_channels = channels,
                                     .kernel_size = 3,
                                     .padding = dilation,
                                     .dilation = dilation,
                                     .groups = channels,
                                     .bias = false});
    };
    f_loc_ = register_module("f_loc", depthwise(1));
    f_sur_ = register_module("f_sur", depthwise(p.dilations[stage]));
    bn_ = register_module("bn", p.norm_cfg.build(2 * channels));
    activate_ = register_module("activate", channel_prelu(2 * channels));
    if (first) {
      bottleneck_ = register_module(
          "bottleneck",
          build_conv(p.conv_cfg,
                     {.in_channels = 2 * channels, .out_channels = out, .bias = false}));
    }
    f_glo_ = register_module("f_glo", std::make_shared<GlobalContext>(out, p.reductions[stage]));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto run = [this](const torch::Tensor& in) {
      const auto narrow = conv1x1_->forward(in);
      auto joint = at::cat({f_loc_->forward(narrow), f_sur_->forward(narrow)}, 1);
      joint = activate_->forward(bn_->forward(joint));
      if (bottleneck_) joint = bottleneck_->forward(joint);
      const auto out = f_glo_->forward(joint);
      return first_ ? out : in + out;
    };
    return run_block(with_cp_, run, x);
  }

 private:
  bool with_cp_;
  bool first_;  ///< of its stage: it halves the map and has no shortcut
  std::shared_ptr<ConvModule> conv1x1_;
  std::shared_ptr<Conv2d> f_loc_, f_sur_;
  std::shared_ptr<Conv2d> bottleneck_;  ///< null unless first
  std::shared_ptr<Norm> bn_;
  std::shared_ptr<Activation> activate_;
  std::shared_ptr<GlobalContext> f_glo_;
};

}  // namespace

/// Blocks that see a pixel, its surroundings and the whole image; the image itself, made smaller,
/// joins the maps of the first two stages.
class CGNet final : public Backbone {
 public:
  using Params = CGNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Context guided blocks: a pixel, its surroundings and the whole image.")
        .source("Wu et al. 2018, arXiv:1811.08201")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("num_channels", &Params::num_channels, "widths of the stem and the two stages",
                  at_least(1))
        .optional("num_blocks", &Params::num_blocks, "blocks of the two stages", at_least(1))
        .optional("dilations", &Params::dilations, "of the convolutions that see the surroundings",
                  at_least(1))
        .optional("reductions", &Params::reductions,
                  "divisors of the width where the whole image is seen", at_least(1))
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg,
                  "type of the activations after the stem's and the blocks' first convolutions")
        .optional("norm_eval", &Params::norm_eval, "batch norms keep their running statistics")
        .optional("with_cp", &Params::with_cp,
                  "recompute blocks in the backward pass to save memory")
        .optional("pretrained", &Params::pretrained,
                  "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate([](const Params& p, Problems& problems) {
          for (size_t i = 0; i < 2; ++i) {
            const int64_t width = p.num_channels[i + 1];
            if (p.reductions[i] > width) {
              problems.error("reductions", text("must be at most the width of the stage, ", width,
                                                "; got ", p.reductions[i]));
            }
            if (p.num_blocks[i] > 1 && width % 2 != 0) {
              problems.error("num_channels", text("widths of stages must be even, got ", width));
            }
          }
          if (p.pretrained && p.init_cfg) {
            problems.error("pretrained", "cannot be combined with init_cfg");
          }
        });
  }

  explicit CGNet(const Params& p) : Backbone(cgnet_init(p)), norm_eval_(p.norm_eval) {
    stem_ = register_module("stem", std::make_shared<ListOf<ConvModule>>());
    for (int64_t i = 0; i < 3; ++i) {
      stem_->push_back(cgnet_conv(p, i == 0 ? p.in_channels : p.num_channels[0], p.num_channels[0],
                                  3, i == 0 ? 2 : 1));
    }
    int64_t width = add_norm(p, p.num_channels[0] + p.in_channels, 2);
    for (size_t stage = 0; stage < 2; ++stage) {
      auto blocks = std::make_shared<ListOf<ContextGuidedBlock>>();
      for (int64_t b = 0; b < p.num_blocks[stage]; ++b) {
        blocks->push_back(std::make_shared<ContextGuidedBlock>(p, stage, width, b == 0));
        width = p.num_channels[stage + 1];
      }
      levels_.push_back(register_module(text("level", stage + 1), blocks));
      width = add_norm(p, 2 * width + (stage == 0 ? p.in_channels : 0), stage == 0 ? 4 : 8);
    }
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto half = shrink_->forward(images), quarter = shrink_->forward(half);
    auto x = images;
    for (const auto& conv : *stem_) x = conv->forward(x);
    std::vector<torch::Tensor> out{norms_[0]->forward(joined_maps({x, half}))};
    for (size_t stage = 0; stage < 2; ++stage) {
      x = out.back();
      torch::Tensor first;
      for (const auto& block : *levels_[stage]) {
        x = block->forward(x);
        if (!first.defined()) first = x;
      }
      out.push_back(norms_[stage + 1]->forward(stage == 0 ? at::cat({x, first, quarter}, 1)
                                                          : at::cat({first, x}, 1)));
    }
    return out;
  }

  void train(bool on = true) override {
    Backbone::train(on);
    if (on && norm_eval_) freeze_batch_norms(*this);
  }

 private:
  /// Adds the norm and the activation that end a stage, and the map that they give. Returns its
  /// width.
  int64_t add_norm(const Params& p, int64_t width, int64_t stride) {
    auto row = std::make_shared<Sequential>();
    row->push_back(p.norm_cfg.build(width));
    row->push_back(channel_prelu(width));
    norms_.push_back(register_module(text("norm_prelu_", norms_.size()), row));
    features_.push_back({.channels = width, .stride = stride});
    return width;
  }

  bool norm_eval_;
  std::shared_ptr<ListOf<ConvModule>> stem_;
  std::shared_ptr<Layer> shrink_ = average_pool(3, 2, 1);
  std::vector<std::shared_ptr<ListOf<ContextGuidedBlock>>> levels_;
  std::vector<std::shared_ptr<Sequential>> norms_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, CGNet);

}  // namespace seg
