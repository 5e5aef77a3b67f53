#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/basic_block.hpp"
#include "segcore/models/blocks/dappm.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/weights/conv_init.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PIDNetParams {
  int64_t in_channels = 3;
  int64_t channels = 64;
  int64_t ppm_channels = 96;
  int64_t num_stem_blocks = 2;
  int64_t num_branch_blocks = 3;
  bool align_corners = false;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = act_cfg_of("{type: ReLU, inplace: true}");
  InitCfg init_cfg;

  /// Two stem blocks make the small network, with a narrower boundary branch and lighter fusions.
  bool small() const { return num_stem_blocks == 2; }
};

namespace {

std::shared_ptr<ConvModule> pidnet_conv(const PIDNetParams& p, int64_t in, int64_t out,
                                        int64_t kernel_size, int64_t stride = 1) {
  return padded_conv(in, out, kernel_size, stride, p.norm_cfg, {});
}

std::shared_ptr<Sequential> pidnet_row(const PIDNetParams& p, BlockRowOptions row) {
  row.act_cfg = p.act_cfg;
  row.shortcut = [&p](int64_t in, int64_t out, int64_t stride) {
    return pidnet_conv(p, in, out, 1, stride);
  };
  return block_row(row);
}

/// A basic block without activation after its sum.
std::shared_ptr<Layer> pidnet_block(const PIDNetParams& p, int64_t in, int64_t out) {
  BasicBlockOptions o{.in_channels = in, .channels = out};
  if (in != out) o.downsample = pidnet_conv(p, in, out, 1);
  return std::make_shared<BasicBlock>(o);
}

/// Mixes two maps by how much they agree at each pixel: children `f_i`, `f_p`.
class PixelGuidedFusion final : public BaseModule {
 public:
  PixelGuidedFusion(int64_t in, int64_t channels) {
    const auto norm = norm_cfg_of("{type: BN}");
    f_i_ = register_module("f_i", padded_conv(in, channels, 1, 1, norm, {}));
    f_p_ = register_module("f_p", padded_conv(in, channels, 1, 1, norm, {}));
  }
  /// \param fine    of the detail branch.
  /// \param coarse  of the context branch, as wide.
  torch::Tensor forward(const torch::Tensor& fine, const torch::Tensor& coarse) {
    const Size2 size = map_size(fine);
    const auto product = f_p_->forward(fine) * resize(f_i_->forward(coarse), size);
    const auto share = product.sum(1, /*keepdim=*/true).sigmoid();  // [N, 1, H, W]
    return share * resize(coarse, size) + (1 - share) * fine;
  }

 private:
  std::shared_ptr<ConvModule> f_i_, f_p_;
};

/// Mixes detail and context: detail at boundaries, context elsewhere.
class BoundaryGuidedFusion : public BaseModule {
 public:
  virtual torch::Tensor forward(const torch::Tensor& detail, const torch::Tensor& context,
                                const torch::Tensor& boundary) = 0;
};

/// Child `conv`, which follows its norm and activation.
class Bag final : public BoundaryGuidedFusion {
 public:
  Bag(const PIDNetParams& p, int64_t channels) {
    conv_ = register_module(
        "conv", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = channels,
                                                               .out_channels = channels,
                                                               .kernel_size = 3,
                                                               .padding = 1,
                                                               .norm_cfg = p.norm_cfg,
                                                               .act_cfg = p.act_cfg,
                                                               .order = {'n', 'a', 'c'}}));
  }
  torch::Tensor forward(const torch::Tensor& detail, const torch::Tensor& context,
                        const torch::Tensor& boundary) override {
    const auto share = boundary.sigmoid();
    return conv_->forward(share * detail + (1 - share) * context);
  }

 private:
  std::shared_ptr<ConvModule> conv_;
};

/// The same by 1x1 convolutions: children `f_p`, `f_i`.
class LightBag final : public BoundaryGuidedFusion {
 public:
  LightBag(const PIDNetParams& p, int64_t channels) {
    f_p_ = register_module("f_p", pidnet_conv(p, channels, channels, 1));
    f_i_ = register_module("f_i", pidnet_conv(p, channels, channels, 1));
  }
  torch::Tensor forward(const torch::Tensor& detail, const torch::Tensor& context,
                        const torch::Tensor& boundary) override {
    const auto share = boundary.sigmoid();
    return f_p_->forward((1 - share) * context + detail) + f_i_->forward(context + share * detail);
  }

 private:
  std::shared_ptr<ConvModule> f_p_, f_i_;
};

}  // namespace

/// Three branches, named after the parts of a controller: P for detail, I for context down to
/// stride 64, and D for boundaries, which decides where detail outweighs context.
///
/// Its outputs are the maps of P and D at stride 8, for auxiliary losses, and the joined one.
/// MMSegmentation gives the first two in training only, the joined one between them.
class PIDNet final : public Backbone {
 public:
  using Params = PIDNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Three branches, of detail, of context and of boundaries.")
        .source("Xu et al. 2022, arXiv:2206.02066")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("channels", &Params::channels, "width of the stem", at_least(1))
        .optional("ppm_channels", &Params::ppm_channels, "width of the pooling pyramid's scales",
                  at_least(1))
        .optional("num_stem_blocks", &Params::num_stem_blocks,
                  "blocks of the stem's and the detail branch's stages; 2: the small network, with "
                  "lighter boundary branch and fusions",
                  at_least(1))
        .optional("num_branch_blocks", &Params::num_branch_blocks,
                  "blocks of the context branch's stages", at_least(1))
        .optional("align_corners", &Params::align_corners, "how resizing maps corners")
        .optional(
            "norm_cfg", &Params::norm_cfg,
            "type of the norms outside of blocks, of the pooling pyramid and of the mixing of "
            "detail and context, which have BN")
        .optional("act_cfg", &Params::act_cfg, "type of the activations outside of blocks")
        .optional("init_cfg", &Params::init_cfg, "initialisation");
  }

  explicit PIDNet(const Params& p) : Backbone(p.init_cfg), align_corners_(p.align_corners) {
    const int64_t c = p.channels;
    make_stem(p);
    i_branch_ = register_module("i_branch_layers", std::make_shared<ListOf<Sequential>>());
    p_branch_ = register_module("p_branch_layers", std::make_shared<ListOf<Sequential>>());
    for (int i = 0; i < 3; ++i) {
      const bool last = i == 2;
      i_branch_->push_back(pidnet_row(p, {.bottleneck = last,
                                          .in_channels = c << (i + 1),
                                          .channels = c * (i == 0 ? 4 : 8),
                                          .num_blocks = last ? 2 : p.num_branch_blocks,
                                          .stride = 2}));
      p_branch_->push_back(pidnet_row(p, {.bottleneck = last,
                                          .in_channels = 2 * c,
                                          .channels = 2 * c,
                                          .num_blocks = last ? 1 : p.num_stem_blocks}));
    }
    compression_1_ = register_module("compression_1", pidnet_conv(p, 4 * c, 2 * c, 1));
    compression_2_ = register_module("compression_2", pidnet_conv(p, 8 * c, 2 * c, 1));
    pag_1_ = register_module("pag_1", std::make_shared<PixelGuidedFusion>(2 * c, c));
    pag_2_ = register_module("pag_2", std::make_shared<PixelGuidedFusion>(2 * c, c));
    d_branch_ = register_module("d_branch_layers", std::make_shared<ListOf<Layer>>());
    const int64_t narrow = p.small() ? c : 2 * c;
    d_branch_->push_back(pidnet_block(p, 2 * c, narrow));
    if (p.small()) {
      d_branch_->push_back(pidnet_row(p, {.bottleneck = true, .in_channels = c, .channels = c}));
    } else {
      d_branch_->push_back(pidnet_block(p, 2 * c, 2 * c));
    }
    d_branch_->push_back(
        pidnet_row(p, {.bottleneck = true, .in_channels = 2 * c, .channels = 2 * c}));
    diff_1_ = register_module("diff_1", pidnet_conv(p, 4 * c, narrow, 3));
    diff_2_ = register_module("diff_2", pidnet_conv(p, 8 * c, 2 * c, 3));
    spp_ =
        register_module("spp", std::make_shared<AggregationPyramid>(
                                   16 * c, p.ppm_channels, 4 * c,
                                   p.small() ? PyramidFusion::kParallel : PyramidFusion::kInTurn));
    if (p.small()) {
      dfm_ = std::make_shared<LightBag>(p, 4 * c);
    } else {
      dfm_ = std::make_shared<Bag>(p, 4 * c);
    }
    register_module("dfm", dfm_);
    features_ = {{.channels = 2 * c, .stride = 8},
                 {.channels = 2 * c, .stride = 8},
                 {.channels = 4 * c, .stride = 8}};
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  /// Kaiming's normal everywhere: pretrained files have no boundary branch.
  void init_weights() override {
    kaiming_convs_init(*this);
    apply_init_cfg();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto x = stem_->forward(images);
    const auto enlarged = [&](const torch::Tensor& map) {
      return resize(map, map_size(x), align_corners_);
    };
    auto context = (*i_branch_)[0].forward(x).relu();
    auto detail = pag_1_->forward((*p_branch_)[0].forward(x), compression_1_->forward(context));
    auto boundary = (*d_branch_)[0].forward(x) + enlarged(diff_1_->forward(context));
    const auto first_detail = detail;

    context = (*i_branch_)[1].forward(context).relu();
    detail =
        pag_2_->forward((*p_branch_)[1].forward(detail.relu()), compression_2_->forward(context));
    boundary = (*d_branch_)[1].forward(boundary.relu()) + enlarged(diff_2_->forward(context));
    const auto second_boundary = boundary;

    context = enlarged(spp_->forward((*i_branch_)[2].forward(context)));
    detail = (*p_branch_)[2].forward(detail.relu());
    boundary = (*d_branch_)[2].forward(boundary.relu());
    return {first_detail, second_boundary, dfm_->forward(detail, context, boundary)};
  }

 private:
  void make_stem(const Params& p) {
    const int64_t c = p.channels;
    const auto relu = [] {
      return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
    };
    stem_ = std::make_shared<Sequential>();
    stem_->push_back(padded_conv(p.in_channels, c, 3, 2, p.norm_cfg, p.act_cfg));
    stem_->push_back(padded_conv(c, c, 3, 2, p.norm_cfg, p.act_cfg));
    BlockRowOptions row{.in_channels = c, .channels = c, .num_blocks = p.num_stem_blocks};
    stem_->push_back(pidnet_row(p, row));
    stem_->push_back(relu());
    row.channels = 2 * c;
    row.stride = 2;
    stem_->push_back(pidnet_row(p, row));
    stem_->push_back(relu());
    register_module("stem", stem_);
  }

  bool align_corners_;
  std::shared_ptr<Sequential> stem_;
  std::shared_ptr<ListOf<Sequential>> i_branch_, p_branch_;
  std::shared_ptr<ListOf<Layer>> d_branch_;
  std::shared_ptr<ConvModule> compression_1_, compression_2_, diff_1_, diff_2_;
  std::shared_ptr<PixelGuidedFusion> pag_1_, pag_2_;
  std::shared_ptr<AggregationPyramid> spp_;
  std::shared_ptr<BoundaryGuidedFusion> dfm_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, PIDNet);

}  // namespace seg
