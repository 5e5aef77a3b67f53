#include <array>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/attention_refinement.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct BiSeNetV1Params {
  Spec<Backbone> backbone_cfg;
  int64_t in_channels = 3;
  std::array<int64_t, 4> spatial_channels{64, 64, 64, 128};
  std::array<int64_t, 3> context_channels{128, 256, 512};
  std::vector<int64_t> out_indices{0, 1, 2};
  int64_t out_channels = 256;
  InitCfg init_cfg;
};

namespace {

/// Four convolutions to stride 8 that keep detail: children `layer1` to `layer4`.
std::shared_ptr<Sequential> bisenet_spatial_path(int64_t in, const std::array<int64_t, 4>& widths) {
  constexpr std::array<int64_t, 4> kKernels{7, 3, 3, 1}, kStrides{2, 2, 2, 1};
  auto path = std::make_shared<Sequential>();
  for (size_t i = 0; i < widths.size(); ++i) {
    path->push_back(text("layer", i + 1), padded_conv(in, widths[i], kKernels[i], kStrides[i]));
    in = widths[i];
  }
  return path;
}

/// Refines the two coarsest maps of a network and brings them to the sizes of the maps before.
class BiSeNetContextPath final : public BaseModule {
 public:
  /// \throws OptionError if the network does not give four maps of the widths that are needed.
  BiSeNetContextPath(const Spec<Backbone>& cfg, const std::array<int64_t, 3>& widths) {
    backbone_ = register_module("backbone", cfg.build());
    const auto maps = backbone_->features();
    if (maps.size() != 4) {
      throw OptionError("backbone_cfg", text("must give 4 maps, but gives ", maps.size()));
    }
    if (widths[1] != maps[2].channels || widths[2] != maps[3].channels) {
      throw OptionError(
          "context_channels",
          text("ends in ", widths[1], ", ", widths[2], ", but the last maps of backbone_cfg have ",
               maps[2].channels, " and ", maps[3].channels, " channels"));
    }
    fine_stride_ = maps[1].stride;
    coarse_stride_ = maps[2].stride;
    const int64_t width = widths[0];
    arm16_ =
        register_module("arm16", std::make_shared<AttentionRefinementModule>(widths[1], width));
    arm32_ =
        register_module("arm32", std::make_shared<AttentionRefinementModule>(widths[2], width));
    conv_head32_ = register_module("conv_head32", padded_conv(width, width, 3));
    conv_head16_ = register_module("conv_head16", padded_conv(width, width, 3));
    gap_conv_ = std::make_shared<Sequential>();
    gap_conv_->push_back(global_average());
    gap_conv_->push_back(padded_conv(widths[2], width, 1));
    register_module("gap_conv", gap_conv_);
  }

  /// \return the finer map, at the size of the network's second one, and the coarser, at its third.
  std::array<torch::Tensor, 2> forward(const torch::Tensor& images) {
    const auto maps = backbone_->forward(images);
    const auto up = [](const torch::Tensor& x, const torch::Tensor& like) {
      return resize(x, map_size(like), false, "nearest");
    };
    auto coarse = arm32_->forward(maps[3]) + gap_conv_->forward(maps[3]);
    coarse = conv_head32_->forward(up(coarse, maps[2]));
    const auto fine = conv_head16_->forward(up(arm16_->forward(maps[2]) + coarse, maps[1]));
    return {fine, coarse};
  }

  int64_t fine_stride() const { return fine_stride_; }
  int64_t coarse_stride() const { return coarse_stride_; }

 private:
  std::shared_ptr<Backbone> backbone_;
  std::shared_ptr<AttentionRefinementModule> arm16_, arm32_;
  std::shared_ptr<ConvModule> conv_head32_, conv_head16_;
  std::shared_ptr<Sequential> gap_conv_;
  int64_t fine_stride_ = 0, coarse_stride_ = 0;
};

/// Joins the maps of both paths and weighs each channel of the outcome by its mean.
class BiSeNetFusion final : public BaseModule {
 public:
  BiSeNetFusion(int64_t in, int64_t out) {
    conv1_ = register_module("conv1", padded_conv(in, out, 1));
    conv_atten_ = std::make_shared<Sequential>();
    conv_atten_->push_back(padded_conv(out, out, 1));
    register_module("conv_atten", conv_atten_);
  }
  torch::Tensor forward(const torch::Tensor& spatial, const torch::Tensor& context) {
    const auto x = conv1_->forward(joined_maps({spatial, context}));
    const auto weight = conv_atten_->forward(at::adaptive_avg_pool2d(x, {1, 1})).sigmoid();
    return x * weight + x;
  }

 private:
  std::shared_ptr<ConvModule> conv1_;
  std::shared_ptr<Sequential> conv_atten_;
};

}  // namespace

/// A shallow path for detail beside a deep one for context.
///
/// Its outputs are the joined map and the two refined maps of the context path, finer first.
class BiSeNetV1 final : public Backbone {
 public:
  using Params = BiSeNetV1Params;
  static Schema<Params> schema() {
    const std::string fixed = "has no effect, as in MMSegmentation: ";
    return Schema<Params>("A shallow path for detail beside a deep one for context.")
        .source("Yu et al. 2018, arXiv:1808.00897")
        .required("backbone_cfg", &Params::backbone_cfg, "the deep path: a network of four maps")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("spatial_channels", &Params::spatial_channels,
                  "widths of the shallow path's convolutions", at_least(1))
        .optional("context_channels", &Params::context_channels,
                  "width of the refined maps, and of the last two maps of backbone_cfg",
                  at_least(1))
        .optional("out_indices", &Params::out_indices,
                  "maps returned: the joined one (0), the refined ones (1 and 2)", in_range(0, 2))
        .optional("out_channels", &Params::out_channels, "width of the joined map", at_least(1))
        .accepted("align_corners", fixed + "maps are enlarged by their nearest pixels")
        .accepted("conv_cfg", fixed + "the convolutions outside of backbone_cfg are Conv2d")
        .accepted("norm_cfg", fixed + "the norms outside of backbone_cfg are BN")
        .accepted("act_cfg", fixed + "the activations outside of backbone_cfg are ReLU")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  explicit BiSeNetV1(const Params& p) : Backbone(p.init_cfg), out_indices_(p.out_indices) {
    context_path_ = register_module(
        "context_path", std::make_shared<BiSeNetContextPath>(p.backbone_cfg, p.context_channels));
    spatial_path_ =
        register_module("spatial_path", bisenet_spatial_path(p.in_channels, p.spatial_channels));
    const int64_t width = p.context_channels[0], joined = p.spatial_channels[3] + width;
    if (joined != p.context_channels[1]) {
      throw OptionError(
          "spatial_channels",
          text("the last, ", p.spatial_channels[3], ", and the first of context_channels, ", width,
               ", must add up to the second of context_channels, ", p.context_channels[1]));
    }
    ffm_ = register_module("ffm", std::make_shared<BiSeNetFusion>(joined, p.out_channels));
    features_ = chosen_by<FeatureInfo>(
        out_indices_, {{.channels = p.out_channels, .stride = 8},
                       {.channels = width, .stride = context_path_->fine_stride()},
                       {.channels = width, .stride = context_path_->coarse_stride()}});
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto context = context_path_->forward(images);
    const auto joined = ffm_->forward(forward_block(*spatial_path_, images), context[0]);
    return chosen_by<torch::Tensor>(out_indices_, {joined, context[0], context[1]});
  }

 private:
  std::vector<int64_t> out_indices_;
  std::shared_ptr<BiSeNetContextPath> context_path_;
  std::shared_ptr<Sequential> spatial_path_;
  std::shared_ptr<BiSeNetFusion> ffm_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, BiSeNetV1);

}  // namespace seg
