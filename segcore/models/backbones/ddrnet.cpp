#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/basic_block.hpp"
#include "segcore/models/blocks/dappm.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DDRNetParams {
  int64_t in_channels = 3;
  int64_t channels = 32;
  int64_t ppm_channels = 128;
  bool align_corners = false;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN, requires_grad: true}");
  ActCfg act_cfg = act_cfg_of("{type: ReLU, inplace: true}");
  InitCfg init_cfg;
};

namespace {

std::shared_ptr<Sequential> ddrnet_row(const DDRNetParams& p, BlockRowOptions row) {
  row.norm_cfg = p.norm_cfg;
  row.act_cfg = p.act_cfg;
  row.shortcut = [&p](int64_t in, int64_t out, int64_t stride) {
    auto shortcut = std::make_shared<Sequential>();
    shortcut->push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                             .out_channels = out,
                                                             .kernel_size = 1,
                                                             .stride = stride,
                                                             .bias = false}));
    shortcut->push_back(p.norm_cfg.build(out));
    return shortcut;
  };
  return block_row(row);
}

/// A branch of three stages: two rows of two basic blocks, then a bottleneck.
std::shared_ptr<ListOf<Sequential>> ddrnet_branch(const DDRNetParams& p, bool context) {
  auto branch = std::make_shared<ListOf<Sequential>>();
  for (int i = 0; i < 3; ++i) {
    const int64_t in = context ? p.channels << (i + 1) : p.channels * 2;
    branch->push_back(
        ddrnet_row(p, {.bottleneck = i == 2,
                       .in_channels = in,
                       .channels = context ? p.channels * (i == 0 ? 4 : 8) : p.channels * 2,
                       .num_blocks = i == 2 ? 1 : 2,
                       .stride = context ? 2 : 1}));
  }
  return branch;
}

}  // namespace

/// A branch of stride 8 for detail beside one that goes down to stride 64 for context; they
/// exchange maps twice.
///
/// Its outputs are the map of the detail branch after the first exchange, for an auxiliary loss,
/// and the joined one. MMSegmentation gives the first in training only.
class DDRNet final : public Backbone {
 public:
  using Params = DDRNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Two branches, of detail and of context, that exchange maps.")
        .source("Hong et al. 2021, arXiv:2101.06085")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("channels", &Params::channels, "width of the stem", at_least(1))
        .optional("ppm_channels", &Params::ppm_channels, "width of the pooling pyramid's scales",
                  at_least(1))
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .optional("norm_cfg", &Params::norm_cfg,
                  "type of the norms; the first block of a stage and the pooling pyramid have BN")
        .optional("act_cfg", &Params::act_cfg, "type of the activations outside of blocks")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  explicit DDRNet(const Params& p) : Backbone(p.init_cfg), align_corners_(p.align_corners) {
    const int64_t c = p.channels;
    const auto conv = [&p](int64_t in, int64_t out, int64_t kernel, int64_t stride,
                           const ActCfg& act) {
      return padded_conv(in, out, kernel, stride, p.norm_cfg, act);
    };
    const auto relu = [] {
      return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
    };
    stem_ = std::make_shared<Sequential>();
    stem_->push_back(conv(p.in_channels, c, 3, 2, p.act_cfg));
    stem_->push_back(conv(c, c, 3, 2, p.act_cfg));
    stem_->push_back(ddrnet_row(p, {.in_channels = c, .channels = c, .num_blocks = 2}));
    stem_->push_back(relu());
    stem_->push_back(
        ddrnet_row(p, {.in_channels = c, .channels = 2 * c, .num_blocks = 2, .stride = 2}));
    stem_->push_back(relu());
    register_module("stem", stem_);
    context_ = register_module("context_branch_layers", ddrnet_branch(p, true));
    compression_1_ = register_module("compression_1", conv(4 * c, 2 * c, 1, 1, {}));
    down_1_ = register_module("down_1", conv(2 * c, 4 * c, 3, 2, {}));
    compression_2_ = register_module("compression_2", conv(8 * c, 2 * c, 1, 1, {}));
    down_2_ = std::make_shared<Sequential>();
    down_2_->push_back(conv(2 * c, 4 * c, 3, 2, p.act_cfg));
    down_2_->push_back(conv(4 * c, 8 * c, 3, 2, {}));
    register_module("down_2", down_2_);
    spatial_ = register_module("spatial_branch_layers", ddrnet_branch(p, false));
    spp_ = register_module("spp", std::make_shared<AggregationPyramid>(
                                      16 * c, p.ppm_channels, 4 * c, PyramidFusion::kInTurn));
    features_ = {{.channels = 2 * c, .stride = 8}, {.channels = 4 * c, .stride = 8}};
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto x = stem_->forward(images);
    const auto enlarged = [&](const torch::Tensor& map) {
      return resize(map, map_size(x), align_corners_);
    };
    auto context = (*context_)[0].forward(x), detail = (*spatial_)[0].forward(x);
    auto compressed = compression_1_->forward(context.relu());
    context = context + down_1_->forward(detail.relu());
    detail = detail + enlarged(compressed);
    const auto after_first_exchange = detail;

    context = (*context_)[1].forward(context.relu());
    detail = (*spatial_)[1].forward(detail.relu());
    compressed = compression_2_->forward(context.relu());
    context = context + down_2_->forward(detail.relu());
    detail = detail + enlarged(compressed);

    detail = (*spatial_)[2].forward(detail.relu());
    context = spp_->forward((*context_)[2].forward(context.relu()));
    return {after_first_exchange, detail + enlarged(context)};
  }

 private:
  bool align_corners_;
  std::shared_ptr<Sequential> stem_, down_2_;
  std::shared_ptr<ListOf<Sequential>> context_, spatial_;
  std::shared_ptr<ConvModule> compression_1_, down_1_, compression_2_;
  std::shared_ptr<AggregationPyramid> spp_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, DDRNet);

}  // namespace seg
