#include <algorithm>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/attention_refinement.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct STDCNetParams {
  std::string stdc_type;
  int64_t in_channels = 3;
  std::vector<int64_t> channels;
  std::string bottleneck_type;
  NormCfg norm_cfg;
  ActCfg act_cfg;
  int64_t num_convs = 4;
  bool with_final_conv = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

/// Convolutions in a row, each of half the width of the one before, whose maps are joined.
class STDCModule final : public Layer {
 public:
  STDCModule(const STDCNetParams& p, int64_t in, int64_t out, int64_t stride)
      : strides_(stride == 2), adds_(p.bottleneck_type == "add") {
    layers_ = register_module("layers", std::make_shared<ListOf<Layer>>());
    auto first = padded_conv(in, out / 2, 1, 1, p.norm_cfg, relu_cfg());
    if (strides_) {
      downsample_ = padded_conv(out / 2, out / 2, 3, 2, p.norm_cfg, {}, out / 2);
      if (adds_) {
        auto skip = std::make_shared<Sequential>();
        skip->push_back(padded_conv(in, in, 3, 2, p.norm_cfg, {}, in));
        skip->push_back(padded_conv(in, out, 1, 1, p.norm_cfg, {}));
        skip_ = skip;
        auto row = std::make_shared<Sequential>();
        row->push_back(first);
        row->push_back(downsample_);
        layers_->push_back(row);
      } else {
        skip_ = std::make_shared<Lambda>(
            [](const torch::Tensor& x) { return at::avg_pool2d(x, 3, 2, 1); });
        layers_->push_back(first);
      }
      // Under "add" it is a child twice, as in MMSegmentation's checkpoints.
      register_module("downsample", downsample_);
      register_module("skip", skip_);
    } else {
      layers_->push_back(first);
    }
    for (int64_t i = 1; i < p.num_convs; ++i) {
      const int64_t divisor = int64_t{1} << (i != p.num_convs - 1 ? i + 1 : i);
      layers_->push_back(padded_conv(out >> i, out / divisor, 3, 1, p.norm_cfg, p.act_cfg));
    }
  }

  torch::Tensor forward(const torch::Tensor& x) override {
    std::vector<torch::Tensor> maps;
    if (adds_) {
      auto out = x;
      for (const auto& layer : *layers_) maps.push_back(out = layer->forward(out));
      return at::cat(maps, 1) + (strides_ ? skip_->forward(x) : x);
    }
    const auto first = (*layers_)[0].forward(x);
    maps.push_back(strides_ ? skip_->forward(first) : first);
    auto out = strides_ ? downsample_->forward(first) : first;
    for (size_t i = 1; i < layers_->size(); ++i) {
      maps.push_back(out = (*layers_)[i].forward(out));
    }
    return at::cat(maps, 1);
  }

 private:
  bool strides_, adds_;
  std::shared_ptr<ListOf<Layer>> layers_;
  std::shared_ptr<ConvModule> downsample_;  ///< null unless it strides
  std::shared_ptr<Layer> skip_;             ///< likewise
};

const std::vector<std::vector<int64_t>>& stdc_strides(const std::string& type) {
  static const std::vector<std::vector<int64_t>> one{{2, 1}, {2, 1}, {2, 1}};
  static const std::vector<std::vector<int64_t>> two{{2, 1, 1, 1}, {2, 1, 1, 1, 1}, {2, 1, 1}};
  return type == "STDCNet1" ? one : two;
}

}  // namespace

/// Short-term dense concatenation; maps of stride 8, 16 and 32.
class STDCNet final : public Backbone {
 public:
  using Params = STDCNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Short-term dense concatenation.")
        .source("Fan et al. 2021, arXiv:2104.13188")
        .required("stdc_type", &Params::stdc_type, "depth", one_of({"STDCNet1", "STDCNet2"}))
        .required("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .required("channels", &Params::channels, "widths of the five stages", at_least(1))
        .required("bottleneck_type", &Params::bottleneck_type, "how blocks join their maps",
                  one_of({"add", "cat"}))
        .required("norm_cfg", &Params::norm_cfg, "type of the norms")
        .required("act_cfg", &Params::act_cfg, "type of the activations")
        .optional("num_convs", &Params::num_convs, "convolutions of a block", at_least(2))
        .optional("with_final_conv", &Params::with_final_conv, "a last convolution to 1024 maps")
        .optional("pretrained", &Params::pretrained,
                  "has no effect, as in MMSegmentation; use "
                  "init_cfg")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate([](const Params& p, Problems& problems) {
          if (p.channels.size() != 5) {
            problems.error("channels", text("needs 5 values, got ", p.channels.size()));
          }
          if (p.pretrained) problems.warn("pretrained", "has no effect; use init_cfg");
        });
  }

  explicit STDCNet(const Params& p) : Backbone(p.init_cfg) {
    stages_ = register_module("stages", std::make_shared<ListOf<Layer>>());
    stages_->push_back(padded_conv(p.in_channels, p.channels[0], 3, 2, p.norm_cfg, p.act_cfg));
    stages_->push_back(padded_conv(p.channels[0], p.channels[1], 3, 2, p.norm_cfg, p.act_cfg));
    int64_t stride = 4;
    for (size_t i = 0; i < 3; ++i) {
      auto stage = std::make_shared<Sequential>();
      int64_t in = p.channels[i + 1];
      const int64_t out = p.channels[i + 2];
      for (const int64_t s : stdc_strides(p.stdc_type)[i]) {
        stage->push_back(std::make_shared<STDCModule>(p, in, out, s));
        in = out;
      }
      stages_->push_back(stage);
      features_.push_back({.channels = out, .stride = stride *= 2});
    }
    if (p.with_final_conv) {
      const int64_t out = std::max<int64_t>(1024, p.channels[4]);
      final_conv_ = register_module("final_conv",
                                    padded_conv(p.channels[4], out, 1, 1, p.norm_cfg, p.act_cfg));
      features_.back().channels = out;
    }
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = images;
    for (size_t i = 0; i < stages_->size(); ++i) {
      x = (*stages_)[i].forward(x);
      if (i >= 2) out.push_back(x);
    }
    if (final_conv_) out.back() = final_conv_->forward(out.back());
    return out;
  }

 private:
  std::shared_ptr<ListOf<Layer>> stages_;
  std::shared_ptr<ConvModule> final_conv_;  ///< may be null
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, STDCNet);

// --- With context paths -------------------------------------------------------------------------

struct STDCFusionParams {
  int64_t in_channels = 512;
  int64_t out_channels = 256;
  int64_t scale_factor = 4;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  static Schema<STDCFusionParams> schema() {
    using P = STDCFusionParams;
    return Schema<P>("Fusion of the spatial and the context maps.")
        .required("in_channels", &P::in_channels, "width of both maps together", at_least(1))
        .required("out_channels", &P::out_channels, "width given", at_least(1))
        .optional("scale_factor", &P::scale_factor, "divisor of the width of the attention",
                  at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "type of the norm")
        .optional("act_cfg", &P::act_cfg, "type of the activations");
  }
};

struct STDCContextPathNetParams {
  Spec<Backbone> backbone_cfg;
  std::vector<int64_t> last_in_channels{1024, 512};
  int64_t out_channels = 128;
  STDCFusionParams ffm_cfg;
  std::string upsample_mode = "nearest";
  std::optional<bool> align_corners;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  InitCfg init_cfg;
};

namespace {

/// Joins two maps and weighs each channel of the outcome by its mean.
class STDCFusion final : public BaseModule {
 public:
  explicit STDCFusion(const STDCFusionParams& p) {
    conv0_ = register_module(
        "conv0", padded_conv(p.in_channels, p.out_channels, 1, 1, p.norm_cfg, p.act_cfg));
    const auto conv = [](int64_t in, int64_t out, const ActCfg& act) {
      return std::make_shared<ConvModule>(
          ConvModuleOptions{.in_channels = in, .out_channels = out, .bias = false, .act_cfg = act});
    };
    const int64_t narrow = p.out_channels / p.scale_factor;
    attention_ = std::make_shared<Sequential>();
    attention_->push_back(global_average());
    attention_->push_back(conv(p.out_channels, narrow, p.act_cfg));
    attention_->push_back(conv(narrow, p.out_channels, {}));
    register_module("attention", attention_);
  }
  torch::Tensor forward(const torch::Tensor& spatial, const torch::Tensor& context) {
    const auto x = conv0_->forward(joined_maps({spatial, context}));
    return x * attention_->forward(x).sigmoid() + x;
  }

 private:
  std::shared_ptr<ConvModule> conv0_;
  std::shared_ptr<Sequential> attention_;
};

}  // namespace

/// An STDCNet whose coarse maps are refined and joined with the finest.
///
/// Its outputs are the first map of the backbone, the refined maps, coarsest first, and the joined
/// one.
class STDCContextPathNet final : public Backbone {
 public:
  using Params = STDCContextPathNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("STDCNet with the context path of BiSeNet.")
        .source("Fan et al. 2021, arXiv:2104.13188")
        .required("backbone_cfg", &Params::backbone_cfg, "the network below, an STDCNet")
        .optional("last_in_channels", &Params::last_in_channels,
                  "widths of its last maps, coarsest first", at_least(1))
        .optional("out_channels", &Params::out_channels, "width of the refined maps", at_least(1))
        .optional("ffm_cfg", &Params::ffm_cfg, "the fusion")
        .optional("upsample_mode", &Params::upsample_mode, "how maps are enlarged",
                  one_of({"nearest", "bilinear", "bicubic", "area"}))
        .optional("align_corners", &Params::align_corners, "for bilinear and bicubic; null: no")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  explicit STDCContextPathNet(const Params& p)
      : Backbone(p.init_cfg), mode_(p.upsample_mode), align_(p.align_corners.value_or(false)) {
    backbone_ = register_module("backbone", p.backbone_cfg.build());
    const auto below = backbone_->features();
    const size_t count = p.last_in_channels.size();
    if (count < 2 || count >= below.size()) {
      throw OptionError("last_in_channels", text("has ", count, " values; the backbone gives ",
                                                 below.size(), " maps, and 2 are needed"));
    }
    arms_ = register_module("arms", std::make_shared<ListOf<AttentionRefinementModule>>());
    convs_ = register_module("convs", std::make_shared<ListOf<ConvModule>>());
    for (size_t i = 0; i < count; ++i) {
      const auto& map = below[below.size() - 1 - i];
      if (p.last_in_channels[i] != map.channels) {
        throw OptionError("last_in_channels", text("is ", p.last_in_channels[i], " for a map of ",
                                                   map.channels, " channels"));
      }
      arms_->push_back(
          std::make_shared<AttentionRefinementModule>(p.last_in_channels[i], p.out_channels));
      convs_->push_back(padded_conv(p.out_channels, p.out_channels, 3, 1, p.norm_cfg, relu_cfg()));
    }
    conv_avg_ = register_module("conv_avg", padded_conv(p.last_in_channels[0], p.out_channels, 1, 1,
                                                        p.norm_cfg, relu_cfg()));
    if (p.ffm_cfg.in_channels != below[0].channels + p.out_channels) {
      throw OptionError("ffm_cfg",
                        text("in_channels is ", p.ffm_cfg.in_channels, ", but the maps have ",
                             below[0].channels, " + ", p.out_channels, " channels"));
    }
    ffm_ = register_module("ffm", std::make_shared<STDCFusion>(p.ffm_cfg));
    features_.push_back(below[0]);
    for (size_t i = 0; i < count; ++i) {
      features_.push_back(
          {.channels = p.out_channels, .stride = below[below.size() - 2 - i].stride});
    }
    features_.push_back({.channels = p.ffm_cfg.out_channels, .stride = below[0].stride});
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto maps = backbone_->forward(images);
    auto up = conv_avg_->forward(at::adaptive_avg_pool2d(maps.back(), {1, 1}));
    up = resize(up, map_size(maps.back()), align_, mode_);
    std::vector<torch::Tensor> out{maps[0]};
    for (size_t i = 0; i < arms_->size(); ++i) {
      const size_t k = maps.size() - 1 - i;
      up = resize((*arms_)[i].forward(maps[k]) + up, map_size(maps[k - 1]), align_, mode_);
      up = (*convs_)[i].forward(up);
      out.push_back(up);
    }
    out.push_back(ffm_->forward(maps[0], out[2]));
    return out;
  }

 private:
  std::string mode_;
  bool align_;
  std::shared_ptr<Backbone> backbone_;
  std::shared_ptr<ListOf<AttentionRefinementModule>> arms_;
  std::shared_ptr<ListOf<ConvModule>> convs_;
  std::shared_ptr<ConvModule> conv_avg_;
  std::shared_ptr<STDCFusion> ffm_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, STDCContextPathNet);

}  // namespace seg
