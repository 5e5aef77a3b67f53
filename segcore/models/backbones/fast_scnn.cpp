#include <array>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/inverted_residual.hpp"
#include "segcore/models/blocks/ppm.hpp"
#include "segcore/models/nn/depthwise_act.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct FastSCNNParams {
  int64_t in_channels = 3;
  std::array<int64_t, 2> downsample_dw_channels{32, 48};
  int64_t global_in_channels = 64;
  std::array<int64_t, 3> global_block_channels{64, 96, 128};
  std::array<int64_t, 3> global_block_strides{2, 2, 1};
  int64_t global_out_channels = 128;
  int64_t higher_in_channels = 64;
  int64_t lower_in_channels = 128;
  int64_t fusion_out_channels = 128;
  std::vector<int64_t> out_indices{0, 1, 2};
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  bool align_corners = false;
  DepthwiseActCfg dw_act_cfg;
  InitCfg init_cfg;
};

namespace {

std::shared_ptr<ConvModule> fast_scnn_conv(const FastSCNNParams& p, int64_t in, int64_t out,
                                           int64_t kernel_size, const ActCfg& act,
                                           int64_t stride = 1, int64_t groups = 1) {
  return padded_conv(in, out, kernel_size, stride, p.norm_cfg, act, groups, p.conv_cfg);
}

/// Three strided convolutions to stride 8: children `conv`, `dsconv1`, `dsconv2`.
std::shared_ptr<Sequential> learning_to_downsample(const FastSCNNParams& p) {
  const auto& widths = p.downsample_dw_channels;
  auto path = std::make_shared<Sequential>();
  path->push_back("conv", fast_scnn_conv(p, p.in_channels, widths[0], 3, p.act_cfg, 2));
  // As in MMSegmentation, neither conv_cfg nor act_cfg reaches the next two.
  const auto add = [&](const char* name, int64_t in, int64_t out) {
    DepthwiseSeparableOptions o;
    o.in_channels = in;
    o.out_channels = out;
    o.kernel_size = 3;
    o.stride = 2;
    o.padding = 1;
    o.norm_cfg = p.norm_cfg;
    o.dw_act_cfg = depthwise_act(p.dw_act_cfg);
    path->push_back(name, std::make_shared<DepthwiseSeparableConvModule>(o));
  };
  add("dsconv1", widths[0], widths[1]);
  add("dsconv2", widths[1], p.global_in_channels);
  return path;
}

/// Inverted residuals, then a pooling pyramid.
class GlobalFeatureExtractor final : public Layer {
 public:
  explicit GlobalFeatureExtractor(const FastSCNNParams& p) {
    constexpr int64_t kBlocks = 3, kExpansion = 6;
    int64_t in = p.global_in_channels;
    for (size_t i = 0; i < p.global_block_channels.size(); ++i) {
      const int64_t out = p.global_block_channels[i];
      auto blocks = std::make_shared<Sequential>();
      for (int64_t b = 0; b < kBlocks; ++b) {
        blocks->push_back(std::make_shared<InvertedResidual>(
            InvertedResidualOptions{.in_channels = b == 0 ? in : out,
                                    .out_channels = out,
                                    .stride = b == 0 ? p.global_block_strides[i] : 1,
                                    .expand_ratio = kExpansion,
                                    .norm_cfg = p.norm_cfg,
                                    .act_cfg = p.act_cfg}));
      }
      bottlenecks_.push_back(register_module(text("bottleneck", i + 1), blocks));
      in = out;
    }
    ppm_ =
        register_module("ppm", std::make_shared<PPM>(PPMOptions{.in_channels = in,
                                                                .channels = in / 4,
                                                                .conv_cfg = p.conv_cfg,
                                                                .norm_cfg = p.norm_cfg,
                                                                .act_cfg = p.act_cfg,
                                                                .align_corners = p.align_corners}));
    out_ = register_module("out", fast_scnn_conv(p, 2 * in, p.global_out_channels, 3, p.act_cfg));
  }
  torch::Tensor forward(const torch::Tensor& higher) override {
    auto x = higher;
    for (const auto& blocks : bottlenecks_) x = blocks->forward(x);
    std::vector<torch::Tensor> maps{x};
    for (auto& pooled : ppm_->forward(x)) maps.push_back(std::move(pooled));
    return out_->forward(joined_maps(maps));
  }

 private:
  std::vector<std::shared_ptr<Sequential>> bottlenecks_;
  std::shared_ptr<PPM> ppm_;
  std::shared_ptr<ConvModule> out_;
};

/// Adds the coarse map, enlarged, to the fine one.
class FastSCNNFusion final : public BaseModule {
 public:
  explicit FastSCNNFusion(const FastSCNNParams& p) : align_corners_(p.align_corners) {
    const int64_t out = p.fusion_out_channels;
    dwconv_ = register_module("dwconv",
                              fast_scnn_conv(p, p.lower_in_channels, out, 3, p.act_cfg, 1, out));
    conv_lower_res_ = register_module("conv_lower_res", fast_scnn_conv(p, out, out, 1, {}));
    conv_higher_res_ =
        register_module("conv_higher_res", fast_scnn_conv(p, p.higher_in_channels, out, 1, {}));
  }
  torch::Tensor forward(const torch::Tensor& higher, const torch::Tensor& lower) {
    const auto enlarged = resize(lower, map_size(higher), align_corners_);
    const auto coarse = conv_lower_res_->forward(dwconv_->forward(enlarged));
    return (conv_higher_res_->forward(higher) + coarse).relu();
  }

 private:
  bool align_corners_;
  std::shared_ptr<ConvModule> dwconv_, conv_lower_res_, conv_higher_res_;
};

}  // namespace

/// A few convolutions for detail, from whose map a deep branch starts, and their sum.
///
/// Its outputs are the map of the first convolutions, that of the deep branch, and the sum.
class FastSCNN final : public Backbone {
 public:
  using Params = FastSCNNParams;
  static Schema<Params> schema() {
    return Schema<Params>("Fast segmentation: two branches that share their first convolutions.")
        .source("Poudel et al. 2019, arXiv:1902.04502")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("downsample_dw_channels", &Params::downsample_dw_channels,
                  "widths of the first two convolutions", at_least(1))
        .optional("global_in_channels", &Params::global_in_channels,
                  "width of the fine map, which the deep branch takes", at_least(1))
        .optional("global_block_channels", &Params::global_block_channels,
                  "widths of the deep branch's stages", at_least(1))
        .optional("global_block_strides", &Params::global_block_strides,
                  "strides of the deep branch's stages", in_range(1, 2))
        .optional("global_out_channels", &Params::global_out_channels, "width of the coarse map",
                  at_least(1))
        .optional("higher_in_channels", &Params::higher_in_channels,
                  "width of the fine map where the two are added: global_in_channels", at_least(1))
        .optional("lower_in_channels", &Params::lower_in_channels,
                  "width of the coarse map where the two are added: global_out_channels",
                  at_least(1))
        .optional("fusion_out_channels", &Params::fusion_out_channels, "width of the sum",
                  at_least(1))
        .optional("out_indices", &Params::out_indices,
                  "maps returned: the fine one (0), the coarse one (1), the sum (2)",
                  in_range(0, 2))
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("act_cfg", &Params::act_cfg, "type of the activations")
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .optional("dw_act_cfg", &Params::dw_act_cfg,
                  "activation after the first depthwise convolutions; null: none; 'default': ReLU")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate(check);
  }

  explicit FastSCNN(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, std::nullopt)), out_indices_(p.out_indices) {
    downsample_ = register_module("learning_to_downsample", learning_to_downsample(p));
    global_ =
        register_module("global_feature_extractor", std::make_shared<GlobalFeatureExtractor>(p));
    fusion_ = register_module("feature_fusion", std::make_shared<FastSCNNFusion>(p));
    int64_t coarse = 8;
    for (const int64_t stride : p.global_block_strides) coarse *= stride;
    features_ =
        chosen_by<FeatureInfo>(out_indices_, {{.channels = p.global_in_channels, .stride = 8},
                                              {.channels = p.global_out_channels, .stride = coarse},
                                              {.channels = p.fusion_out_channels, .stride = 8}});
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto fine = downsample_->forward(images);
    const auto coarse = global_->forward(fine);
    return chosen_by<torch::Tensor>(out_indices_, {fine, coarse, fusion_->forward(fine, coarse)});
  }

 private:
  static void check(const Params& p, Problems& problems) {
    if (p.higher_in_channels != p.global_in_channels) {
      problems.error("higher_in_channels",
                     text("must be global_in_channels, ", p.global_in_channels, "; got ",
                          p.higher_in_channels));
    }
    if (p.lower_in_channels != p.global_out_channels) {
      problems.error("lower_in_channels",
                     text("must be global_out_channels, ", p.global_out_channels, "; got ",
                          p.lower_in_channels));
    }
    if (p.global_block_channels[2] % 4 != 0) {
      problems.error("global_block_channels",
                     text("the last, whose quarters are the pooled maps, must be a multiple of 4, "
                          "got ",
                          p.global_block_channels[2]));
    }
    if (p.lower_in_channels % p.fusion_out_channels != 0) {
      problems.error("fusion_out_channels",
                     text("must divide lower_in_channels, ", p.lower_in_channels, "; got ",
                          p.fusion_out_channels));
    }
    check_depthwise_act(p.dw_act_cfg, problems);
  }

  std::vector<int64_t> out_indices_;
  std::shared_ptr<Sequential> downsample_;
  std::shared_ptr<GlobalFeatureExtractor> global_;
  std::shared_ptr<FastSCNNFusion> fusion_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, FastSCNN);

}  // namespace seg
