#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct BiSeNetV2Params {
  int64_t in_channels = 3;
  std::vector<int64_t> detail_channels{64, 64, 128};
  std::vector<int64_t> semantic_channels{16, 32, 64, 128};
  int64_t semantic_expansion_ratio = 6;
  int64_t bga_channels = 128;
  std::vector<int64_t> out_indices{0, 1, 2, 3, 4};
  bool align_corners = false;
  InitCfg init_cfg;
};

namespace {

/// The norms of the network, which has no option for them.
const NormCfg& bisenetv2_norm() {
  static const NormCfg norm = norm_cfg_of("{type: BN}");
  return norm;
}

std::shared_ptr<ConvModule> bisenetv2_conv(int64_t in, int64_t out, int64_t kernel_size,
                                           int64_t stride, const ActCfg& act, int64_t groups = 1) {
  return padded_conv(in, out, kernel_size, stride, bisenetv2_norm(), act, groups);
}

/// Wide stages of two or three convolutions, each of which halves the map.
std::shared_ptr<BaseModule> detail_branch(int64_t in, const std::vector<int64_t>& widths,
                                          std::shared_ptr<ListOf<Sequential>>& stages) {
  stages = std::make_shared<ListOf<Sequential>>();
  for (size_t i = 0; i < widths.size(); ++i) {
    auto stage = std::make_shared<Sequential>();
    stage->push_back(padded_conv(in, widths[i], 3, 2));
    for (int k = 0; k < (i == 0 ? 1 : 2); ++k) {
      stage->push_back(padded_conv(widths[i], widths[i], 3));
    }
    stages->push_back(stage);
    in = widths[i];
  }
  auto branch = std::make_shared<ListOf<BaseModule>>();
  branch->register_module("detail_branch", stages);
  return branch;
}

/// Quarters the map by a convolution, then by convolutions and by pooling side by side.
class BiSeNetV2Stem final : public Layer {
 public:
  BiSeNetV2Stem(int64_t in, int64_t out) {
    conv_first_ = register_module("conv_first", padded_conv(in, out, 3, 2));
    convs_ = std::make_shared<Sequential>();
    convs_->push_back(padded_conv(out, out / 2, 1));
    convs_->push_back(padded_conv(out / 2, out, 3, 2));
    register_module("convs", convs_);
    fuse_last_ = register_module("fuse_last", padded_conv(2 * out, out, 3));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto first = conv_first_->forward(x);
    const auto pooled = at::max_pool2d(first, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    return fuse_last_->forward(joined_maps({convs_->forward(first), pooled}));
  }

 private:
  std::shared_ptr<ConvModule> conv_first_, fuse_last_;
  std::shared_ptr<Sequential> convs_;
};

/// Gather and expansion: a depthwise convolution to many channels, narrowed again, with a shortcut.
class GatherExpansion final : public Layer {
 public:
  GatherExpansion(int64_t in, int64_t out, int64_t ratio, int64_t stride) {
    const int64_t mid = in * ratio;
    conv1_ = register_module("conv1", padded_conv(in, in, 3));
    dwconv_ = std::make_shared<Sequential>();
    if (stride == 1) {
      dwconv_->push_back(bisenetv2_conv(in, mid, 3, 1, relu_cfg(), in));
    } else {
      dwconv_->push_back(bisenetv2_conv(in, mid, 3, stride, {}, in));
      dwconv_->push_back(bisenetv2_conv(mid, mid, 3, 1, relu_cfg(), mid));
    }
    register_module("dwconv", dwconv_);
    if (stride != 1) {
      DepthwiseSeparableOptions o;
      o.in_channels = in;
      o.out_channels = out;
      o.kernel_size = 3;
      o.stride = stride;
      o.padding = 1;
      o.norm_cfg = bisenetv2_norm();
      o.act_cfg = {};
      shortcut_ = std::make_shared<Sequential>();
      shortcut_->push_back(std::make_shared<DepthwiseSeparableConvModule>(o));
      register_module("shortcut", shortcut_);
    }
    conv2_ = std::make_shared<Sequential>();
    conv2_->push_back(bisenetv2_conv(mid, out, 1, 1, {}));
    register_module("conv2", conv2_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto out = conv2_->forward(dwconv_->forward(conv1_->forward(x)));
    return (out + (shortcut_ ? shortcut_->forward(x) : x)).relu();
  }

 private:
  std::shared_ptr<ConvModule> conv1_;
  std::shared_ptr<Sequential> dwconv_, conv2_;
  std::shared_ptr<Sequential> shortcut_;  ///< null unless it strides
};

/// Adds the means of all channels to every position.
class ContextEmbedding final : public Layer {
 public:
  explicit ContextEmbedding(int64_t channels) {
    gap_ = std::make_shared<Sequential>();
    gap_->push_back(global_average());
    gap_->push_back(bisenetv2_norm()->build(channels));
    register_module("gap", gap_);
    conv_gap_ = register_module("conv_gap", padded_conv(channels, channels, 1));
    conv_last_ = register_module("conv_last", padded_conv(channels, channels, 3));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return conv_last_->forward(x + conv_gap_->forward(gap_->forward(x)));
  }

 private:
  std::shared_ptr<Sequential> gap_;
  std::shared_ptr<ConvModule> conv_gap_, conv_last_;
};

/// Narrow stages `stage1` to `stage<n>`, each of which halves the map once or, the first, twice;
/// and `stage<n>_CEBlock`.
std::shared_ptr<Sequential> semantic_branch(const BiSeNetV2Params& p) {
  const auto& widths = p.semantic_channels;
  auto branch = std::make_shared<Sequential>();
  for (size_t i = 0; i < widths.size(); ++i) {
    const std::string name = text("stage", i + 1);
    if (i == 0) {
      branch->push_back(name, std::make_shared<BiSeNetV2Stem>(p.in_channels, widths[0]));
      continue;
    }
    auto stage = std::make_shared<Sequential>();
    const int blocks = i + 1 == widths.size() ? 4 : 2;
    for (int k = 0; k < blocks; ++k) {
      stage->push_back(std::make_shared<GatherExpansion>(
          widths[k == 0 ? i - 1 : i], widths[i], p.semantic_expansion_ratio, k == 0 ? 2 : 1));
    }
    branch->push_back(name, stage);
  }
  branch->push_back(text("stage", widths.size(), "_CEBlock"),
                    std::make_shared<ContextEmbedding>(widths.back()));
  return branch;
}

/// Bilateral guided aggregation: each branch weighs the other's map, at both resolutions.
class GuidedAggregation final : public BaseModule {
 public:
  GuidedAggregation(int64_t channels, bool align_corners) : align_corners_(align_corners) {
    detail_dwconv_ = register_module("detail_dwconv", depthwise_separable(channels));
    detail_down_ = std::make_shared<Sequential>();
    detail_down_->push_back(bisenetv2_conv(channels, channels, 3, 2, {}));
    detail_down_->push_back(average_pool(3, 2, 1));
    register_module("detail_down", detail_down_);
    semantic_conv_ = std::make_shared<Sequential>();
    semantic_conv_->push_back(bisenetv2_conv(channels, channels, 3, 1, {}));
    register_module("semantic_conv", semantic_conv_);
    semantic_dwconv_ = register_module("semantic_dwconv", depthwise_separable(channels));
    conv_ = register_module("conv", padded_conv(channels, channels, 3));
  }
  torch::Tensor forward(const torch::Tensor& detail, const torch::Tensor& semantic) {
    const Size2 size = map_size(detail);
    const auto gate = resize(semantic_conv_->forward(semantic), size, align_corners_).sigmoid();
    const auto fine = detail_dwconv_->forward(detail) * gate;
    const auto coarse =
        detail_down_->forward(detail) * semantic_dwconv_->forward(semantic).sigmoid();
    return conv_->forward(fine + resize(coarse, size, align_corners_));
  }

 private:
  static std::shared_ptr<Sequential> depthwise_separable(int64_t channels) {
    DepthwiseSeparableOptions o;
    o.in_channels = o.out_channels = channels;
    o.kernel_size = 3;
    o.padding = 1;
    o.act_cfg = {};
    o.dw_norm_cfg = bisenetv2_norm();
    auto row = std::make_shared<Sequential>();
    row->push_back(std::make_shared<DepthwiseSeparableConvModule>(o));
    return row;
  }

  bool align_corners_;
  std::shared_ptr<Sequential> detail_dwconv_, detail_down_, semantic_conv_, semantic_dwconv_;
  std::shared_ptr<ConvModule> conv_;
};

}  // namespace

/// A wide shallow branch for detail and a narrow deep one for meaning, each guiding the other.
///
/// Its outputs are the joined map and the maps of the deep branch's stages, finest first.
class BiSeNetV2 final : public Backbone {
 public:
  using Params = BiSeNetV2Params;
  static Schema<Params> schema() {
    const std::string fixed = "has no effect, as in MMSegmentation: ";
    return Schema<Params>("A wide shallow branch for detail and a narrow deep one for meaning.")
        .source("Yu et al. 2020, arXiv:2004.02147")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("detail_channels", &Params::detail_channels,
                  "widths of the detail branch's stages", at_least(1))
        .optional("semantic_channels", &Params::semantic_channels,
                  "widths of the semantic branch's stages, one more than there are of detail",
                  at_least(2))
        .optional("semantic_expansion_ratio", &Params::semantic_expansion_ratio,
                  "factor of the width inside the semantic branch's blocks", at_least(1))
        .optional("bga_channels", &Params::bga_channels,
                  "width of the joined map, which is that of both branches' last ones", at_least(1))
        .optional("out_indices", &Params::out_indices,
                  "maps returned: the joined one (0), those of the semantic stages (1, 2, ...)",
                  at_least(0))
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .accepted("conv_cfg", fixed + "all convolutions are Conv2d")
        .accepted("norm_cfg", fixed + "all norms are BN")
        .accepted("act_cfg", fixed + "all activations are ReLU")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate(check);
  }

  explicit BiSeNetV2(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, std::nullopt)), out_indices_(p.out_indices) {
    register_module("detail", detail_branch(p.in_channels, p.detail_channels, detail_));
    semantic_ = register_module("semantic", semantic_branch(p));
    bga_ = register_module("bga",
                           std::make_shared<GuidedAggregation>(p.bga_channels, p.align_corners));
    std::vector<FeatureInfo> all{
        {.channels = p.bga_channels, .stride = int64_t{1} << p.detail_channels.size()}};
    for (size_t i = 0; i < p.semantic_channels.size(); ++i) {
      all.push_back({.channels = p.semantic_channels[i], .stride = int64_t{4} << i});
    }
    features_ = chosen_by(out_indices_, all);
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto detail = images;
    for (const auto& stage : *detail_) detail = forward_block(*stage, detail);
    std::vector<torch::Tensor> all(1);
    auto semantic = images;
    for (size_t i = 0; i + 1 < semantic_->size(); ++i) {
      all.push_back(semantic = (*semantic_)[i]->forward(semantic));
    }
    all[0] = bga_->forward(detail, (*semantic_)[semantic_->size() - 1]->forward(semantic));
    return chosen_by(out_indices_, all);
  }

 private:
  static void check(const Params& p, Problems& problems) {
    const size_t stages = p.semantic_channels.size();
    if (p.detail_channels.empty() || stages != p.detail_channels.size() + 1) {
      problems.error("semantic_channels",
                     text("needs one value more than detail_channels, which has ",
                          p.detail_channels.size(), "; got ", stages));
      return;
    }
    if (p.detail_channels.back() != p.bga_channels ||
        p.semantic_channels.back() != p.bga_channels) {
      problems.error("bga_channels", text("must be the last of detail_channels, ",
                                          p.detail_channels.back(), ", and of semantic_channels, ",
                                          p.semantic_channels.back(), "; got ", p.bga_channels));
    }
    for (const int64_t i : p.out_indices) {
      if (i > static_cast<int64_t>(stages)) {
        problems.error("out_indices", text("there is no map ", i, ": the last is ", stages));
      }
    }
  }

  std::vector<int64_t> out_indices_;
  std::shared_ptr<ListOf<Sequential>> detail_;
  std::shared_ptr<Sequential> semantic_;
  std::shared_ptr<GuidedAggregation> bga_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, BiSeNetV2);

}  // namespace seg
