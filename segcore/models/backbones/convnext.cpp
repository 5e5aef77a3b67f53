#include <algorithm>
#include <map>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/convnext_layers.hpp"
#include "segcore/models/backbones/out_indices.hpp"
#include "segcore/models/blocks/global_response_norm.hpp"
#include "segcore/models/blocks/pointwise_conv.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/layer_norm2d.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// Sizes of a variant that has no name.
struct ConvNeXtArch {
  std::vector<int64_t> depths, channels;
  static Schema<ConvNeXtArch> schema() {
    using P = ConvNeXtArch;
    return Schema<P>("Sizes of the stages.")
        .required("depths", &P::depths, "blocks of each stage", at_least(1))
        .required("channels", &P::channels, "width of each stage", at_least(1))
        .validate([](const P& p, Problems& problems) {
          if (p.depths.empty()) problems.error("depths", "must have a value for each stage");
          if (p.channels.size() != p.depths.size()) {
            problems.error("channels", text("has ", p.channels.size(), " entries for ",
                                            p.depths.size(), " stages"));
          }
        });
  }
};

struct ConvNeXtParams {
  std::variant<std::string, ConvNeXtArch> arch = std::string("tiny");
  int64_t in_channels = 3;
  int64_t stem_patch_size = 4;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN2d, eps: 1e-6}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  bool linear_pw_conv = true;
  bool use_grn = false;
  double drop_path_rate = 0;
  double layer_scale_init_value = 1e-6;
  OutIndices out_indices = int64_t{-1};
  int64_t frozen_stages = 0;
  bool gap_before_final_norm = false;
  bool with_cp = false;
  InitCfg init_cfg = init_cfg_of(
      "[{type: TruncNormal, layer: [Conv2d, Linear], std: 0.02, bias: 0.0}, "
      "{type: Constant, layer: [LayerNorm], val: 1.0, bias: 0.0}]");

  ConvNeXtArch sizes() const;
  /// Stages whose maps are returned; negative ones count from the last of four.
  std::vector<int64_t> stages_given() const { return indices_among(out_indices, 4); }
};

namespace {

const std::map<std::string, ConvNeXtArch>& convnext_archs() {
  static const std::map<std::string, ConvNeXtArch> archs{
      {"atto", {{2, 2, 6, 2}, {40, 80, 160, 320}}},
      {"femto", {{2, 2, 6, 2}, {48, 96, 192, 384}}},
      {"pico", {{2, 2, 6, 2}, {64, 128, 256, 512}}},
      {"nano", {{2, 2, 8, 2}, {80, 160, 320, 640}}},
      {"tiny", {{3, 3, 9, 3}, {96, 192, 384, 768}}},
      {"small", {{3, 3, 27, 3}, {96, 192, 384, 768}}},
      {"base", {{3, 3, 27, 3}, {128, 256, 512, 1024}}},
      {"large", {{3, 3, 27, 3}, {192, 384, 768, 1536}}},
      {"xlarge", {{3, 3, 27, 3}, {256, 512, 1024, 2048}}},
      {"huge", {{3, 3, 27, 3}, {352, 704, 1408, 2816}}}};
  return archs;
}

/// Norms of blocks are applied to maps whose channels come last.
std::shared_ptr<LayerNorm2d> convnext_norm(const Spec<Norm>& cfg, int64_t channels) {
  auto norm = std::dynamic_pointer_cast<LayerNorm2d>(cfg.build(channels));
  if (!norm) {
    throw OptionError("norm_cfg", text("must be of the type LN2d, got ", cfg.type()));
  }
  return norm;
}

/// A depthwise convolution and two layers over channels: children `depthwise_conv`, `norm`,
/// `pointwise_conv1`, `pointwise_conv2`, `grn`, parameter `gamma`.
class ConvNeXtBlock final : public Layer {
 public:
  ConvNeXtBlock(const ConvNeXtParams& p, int64_t channels, double drop_path) : with_cp_(p.with_cp) {
    const int64_t inner = 4 * channels;
    if (p.layer_scale_init_value > 0) {
      gamma_ = register_parameter("gamma", torch::full({channels}, p.layer_scale_init_value));
    }
    depthwise_ = register_module("depthwise_conv",
                                 std::make_shared<Conv2d>(ConvOptions{.in_channels = channels,
                                                                      .out_channels = channels,
                                                                      .kernel_size = 7,
                                                                      .padding = 3,
                                                                      .groups = channels}));
    norm_ = register_module("norm", convnext_norm(p.norm_cfg, channels));
    pointwise1_.emplace(*this, "pointwise_conv1", p.linear_pw_conv, channels, inner);
    act_ = register_module("act", p.act_cfg.build(false));
    pointwise2_.emplace(*this, "pointwise_conv2", p.linear_pw_conv, inner, channels);
    if (p.use_grn)
      grn_ = register_module("grn", std::make_shared<GlobalResponseNorm>(inner, "gamma", "beta"));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }

  torch::Tensor forward(const torch::Tensor& in) override {
    const auto block = [this](const torch::Tensor& shortcut) {
      auto x = depthwise_->forward(shortcut).permute({0, 2, 3, 1});  // [N, H, W, C]
      x = act_->forward((*pointwise1_)(norm_->forward_channels_last(x)));
      x = (*pointwise2_)(grn_ ? grn_->forward(x) : x);
      if (gamma_.defined()) x = x * gamma_;
      return shortcut + drop_path_->forward(x.permute({0, 3, 1, 2}));  // [N, C, H, W]
    };
    return run_block(with_cp_, block, in);
  }

 private:
  bool with_cp_;
  torch::Tensor gamma_;  ///< undefined without layer scale
  std::shared_ptr<Conv2d> depthwise_;
  std::shared_ptr<LayerNorm2d> norm_;
  std::optional<PointwiseConv> pointwise1_, pointwise2_;
  std::shared_ptr<Activation> act_;
  std::shared_ptr<GlobalResponseNorm> grn_;  ///< may be null
  std::shared_ptr<DropPath> drop_path_;
};

}  // namespace

ConvNeXtArch ConvNeXtParams::sizes() const {
  const auto* name = std::get_if<std::string>(&arch);
  return name ? convnext_archs().at(*name) : std::get<ConvNeXtArch>(arch);
}

/// Stages of large depthwise convolutions whose widths double.
///
/// ConvNeXt, Liu et al. 2022, arXiv:2201.03545; with `use_grn`, V2, Woo et al. 2023,
/// arXiv:2301.00808.
class ConvNeXt final : public Backbone {
 public:
  using Params = ConvNeXtParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Stages of large depthwise convolutions, as mmpretrain has it.")
        .source("ConvNeXt, Liu et al. 2022, arXiv:2201.03545")
        .optional(
            "arch", &P::arch,
            "size: atto, femto, pico, nano, tiny, small, base, large, xlarge, huge, or depths "
            "and channels")
        .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
        .optional("stem_patch_size", &P::stem_patch_size, "stride of the first map", at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "norms, of the type LN2d")
        .optional("act_cfg", &P::act_cfg, "activation inside blocks")
        .optional("linear_pw_conv", &P::linear_pw_conv,
                  "weights of the layers over channels are those of linear layers, not of 1x1 "
                  "convolutions")
        .optional("use_grn", &P::use_grn, "global response norms inside blocks, as in version 2")
        .optional("drop_path_rate", &P::drop_path_rate,
                  "stochastic depth of the last block; rises from 0", in_range(0, 1))
        .optional("layer_scale_init_value", &P::layer_scale_init_value,
                  "first value of the scales of blocks; 0: no scales", at_least(0))
        .optional("out_indices", &P::out_indices,
                  "stages whose maps are returned; negative: from the last of four")
        .optional("frozen_stages", &P::frozen_stages, "stages to freeze", at_least(0))
        .optional("gap_before_final_norm", &P::gap_before_final_norm, "must be false")
        .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          const auto* name = std::get_if<std::string>(&p.arch);
          if (name && !convnext_archs().contains(*name)) {
            std::vector<std::string> known;
            for (const auto& [arch, sizes] : convnext_archs()) known.push_back(arch);
            problems.error("arch", text("unknown value '", *name, "'. Known: ", join(known, ", "),
                                        ", or a mapping of depths and channels"));
            return;
          }
          const auto stages = static_cast<int64_t>(p.sizes().depths.size());
          for (const int64_t index : p.stages_given()) {
            if (index < 0 || index >= stages) {
              problems.error("out_indices", text("there is no stage ", index, " among ", stages));
            }
          }
          if (p.frozen_stages > stages) {
            problems.error("frozen_stages", text("there are only ", stages, " stages"));
          }
          if (p.gap_before_final_norm) {
            problems.error("gap_before_final_norm",
                           "must be false: the means of maps are for classifiers, heads need maps");
          }
        });
  }

  explicit ConvNeXt(const Params& p)
      : Backbone(p.init_cfg),
        sizes_(p.sizes()),
        out_indices_(p.stages_given()),
        frozen_stages_(p.frozen_stages) {
    int64_t blocks = 0;
    for (const int64_t depth : sizes_.depths) blocks += depth;
    const auto rates = drop_path_rates(p.drop_path_rate, blocks);
    downsample_ = register_module("downsample_layers", std::make_shared<ListOf<Sequential>>());
    stages_ = register_module("stages", std::make_shared<ListOf<Sequential>>());
    size_t block = 0;
    int64_t width = p.in_channels, stride = 1;
    for (size_t i = 0; i < sizes_.depths.size(); ++i) {
      const int64_t channels = sizes_.channels[i], step = i == 0 ? p.stem_patch_size : 2;
      const auto conv = std::make_shared<Conv2d>(ConvOptions{
          .in_channels = width, .out_channels = channels, .kernel_size = step, .stride = step});
      auto downsample = std::make_shared<Sequential>();
      if (i > 0) downsample->push_back(convnext_norm(p.norm_cfg, width));
      downsample->push_back(conv);
      if (i == 0) downsample->push_back(convnext_norm(p.norm_cfg, channels));
      downsample_->push_back(downsample);
      auto stage = std::make_shared<Sequential>();
      for (int64_t k = 0; k < sizes_.depths[i]; ++k) {
        stage->push_back(std::make_shared<ConvNeXtBlock>(p, channels, rates[block++]));
      }
      stages_->push_back(stage);
      width = channels;
      stride *= step;
      norms_.push_back(nullptr);
      if (!gives_stage(out_indices_, i)) continue;
      norms_.back() = register_module(text("norm", i), convnext_norm(p.norm_cfg, channels));
      features_.push_back({channels, stride});
    }
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = images;
    for (size_t i = 0; i < stages_->size(); ++i) {
      x = (*stages_)[i].forward((*downsample_)[i].forward(x));
      if (norms_[i]) out.push_back(norms_[i]->forward(x));
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }
  LayerOrder layer_order() const override { return convnext_layer_order(sizes_.depths); }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
  }

 private:
  void freeze() {
    for (int64_t i = 0; i < frozen_stages_; ++i) {
      freeze_module((*downsample_)[static_cast<size_t>(i)]);
      freeze_module((*stages_)[static_cast<size_t>(i)]);
    }
  }

  ConvNeXtArch sizes_;
  std::vector<int64_t> out_indices_;
  int64_t frozen_stages_;
  std::shared_ptr<ListOf<Sequential>> downsample_, stages_;
  std::vector<std::shared_ptr<LayerNorm2d>> norms_;  ///< null where a stage is not given
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, ConvNeXt);

}  // namespace seg
