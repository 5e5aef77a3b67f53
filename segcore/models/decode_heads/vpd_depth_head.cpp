#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/losses/depth_loss.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct VPDDepthHeadParams {
  double max_depth = 10;
  std::optional<std::vector<int64_t>> in_channels;
  int64_t embed_dim = 192;
  int64_t feature_dim = 1536;
  int64_t num_deconv_layers = 3;
  std::vector<int64_t> num_deconv_filters{32, 32, 32};
  Size2 fmap_border = 0;
  bool align_corners = false;
  OneOrMany<Spec<DepthLoss>> loss_decode{.values = {Spec<DepthLoss>::of("{type: SiLogLoss}")}};
  InitCfg init_cfg = init_cfg_of("{type: TruncNormal, std: 0.02, layer: [Conv2d, Linear]}");
};

namespace {

DecodeHeadParams vpd_head_base(const VPDDepthHeadParams& p) {
  DecodeHeadParams out;
  if (p.in_channels) out.in_channels = *p.in_channels;
  out.in_index = std::vector<int64_t>{0, 1, 2, 3};
  out.input_transform = "multiple_select";
  out.out_channels = 1;
  out.dropout_ratio = 0;
  out.loss_decode.values.clear();
  out.align_corners = p.align_corners;
  out.init_cfg = p.init_cfg;
  return out;
}

std::shared_ptr<Conv2d> vpd_conv(int64_t in, int64_t out, int64_t kernel_size, int64_t stride = 1) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                              .out_channels = out,
                                              .kernel_size = kernel_size,
                                              .stride = stride,
                                              .padding = kernel_size / 2});
}

std::shared_ptr<Layer> vpd_relu() { return relu_cfg()->build(true); }

/// Transposed convolutions that each double the map, and a resizing by 4; children `deconv_layers`,
/// `conv_layers`.
class VPDDepthDecoder final : public Layer {
 public:
  VPDDepthDecoder(int64_t in, int64_t out, const std::vector<int64_t>& filters) {
    init_cfg_ = init_cfg_of("{type: Normal, std: 0.001, layer: [Conv2d, ConvTranspose2d]}");
    const auto norm = norm_cfg_of("{type: BN}");
    deconv_layers_ = register_module("deconv_layers", std::make_shared<Sequential>());
    for (const int64_t width : filters) {
      deconv_layers_->push_back(std::make_shared<ConvTranspose2d>(
          in, width, /*kernel_size=*/2, /*stride=*/2, /*padding=*/0, /*output_padding=*/0,
          /*bias=*/false));
      deconv_layers_->push_back(norm->build(width));
      deconv_layers_->push_back(vpd_relu());
      in = width;
    }
    conv_layers_ = register_module("conv_layers", std::make_shared<Sequential>());
    conv_layers_->push_back(vpd_conv(in, out, 3));
    conv_layers_->push_back(norm->build(out));
    conv_layers_->push_back(vpd_relu());
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto small = conv_layers_->forward(deconv_layers_->forward(x));
    return resize_by(resize_by(small, 2), 2);
  }

 private:
  std::shared_ptr<Sequential> deconv_layers_, conv_layers_;
};

}  // namespace

/// Estimates depth from four maps of a U-Net, each half as large as the one before.
///
/// VPD, Zhao et al. 2023, arXiv:2303.02153, as in MMSegmentation 1.2.2.
class VPDDepthHead final : public DecodeHead {
 public:
  using Params = VPDDepthHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Depth from the maps of a diffusion model's U-Net.")
        .source("VPD, Zhao et al. 2023, arXiv:2303.02153; MMSegmentation 1.2")
        .optional("max_depth", &P::max_depth, "the largest depth that can be estimated", above(0))
        .optional("in_channels", &P::in_channels,
                  "widths of the four maps; null: those of the backbone or neck")
        .optional("embed_dim", &P::embed_dim, "width before the estimate", at_least(1))
        .optional("feature_dim", &P::feature_dim, "width of the joined maps: 8 times embed_dim",
                  at_least(1))
        .optional("num_deconv_layers", &P::num_deconv_layers,
                  "transposed convolutions: as many as num_deconv_filters has", at_least(1))
        .optional("num_deconv_filters", &P::num_deconv_filters, "their widths", at_least(1))
        .optional("fmap_border", &P::fmap_border,
                  "rows and columns of the joined maps that are padding of the image",
                  sides_at_least(0))
        .optional("align_corners", &P::align_corners, "how resizing maps corners")
        .optional("loss_decode", &P::loss_decode, "training objective, or a list of them")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          if (p.feature_dim != 8 * p.embed_dim) {
            problems.error("feature_dim", text("must be 8 times embed_dim (", 8 * p.embed_dim,
                                               "), got ", p.feature_dim));
          }
          if (static_cast<int64_t>(p.num_deconv_filters.size()) != p.num_deconv_layers) {
            problems.error("num_deconv_filters",
                           text("has ", p.num_deconv_filters.size(), " widths for ",
                                p.num_deconv_layers, " layers (num_deconv_layers)"));
          }
          if (p.feature_dim % 16 != 0) {
            problems.error("feature_dim", "must be a multiple of 16, the groups of its norm");
          }
        });
  }
  static DecodeHeadFacts facts(const Params&) { return {}; }

  VPDDepthHead(const Params& p, const std::vector<FeatureInfo>& maps)
      : DecodeHead(vpd_head_base(p), maps), p_(p) {
    int64_t joined = 0;
    for (const auto& map : inputs()) joined += map.channels;
    const int64_t first = inputs()[0].channels, second = inputs()[1].channels;
    if (first % 16 != 0) {
      throw OptionError(
          "in_channels",
          text("the first must be a multiple of 16, the groups of a norm, got ", first));
    }
    const auto norm = norm_cfg_of("{type: GN, num_groups: 16}");
    conv1_ = register_module("conv1", std::make_shared<Sequential>());
    conv1_->push_back(vpd_conv(first, first, 3, /*stride=*/2));
    conv1_->push_back(norm->build(first));
    conv1_->push_back(vpd_relu());
    conv1_->push_back(vpd_conv(first, first, 3, /*stride=*/2));
    conv2_ = register_module("conv2", vpd_conv(second, second, 3, /*stride=*/2));
    conv_aggregation_ = register_module("conv_aggregation", std::make_shared<Sequential>());
    conv_aggregation_->push_back(vpd_conv(joined, p.feature_dim, 1));
    conv_aggregation_->push_back(norm->build(p.feature_dim));
    conv_aggregation_->push_back(vpd_relu());
    decoder_ = register_module("decoder", std::make_shared<VPDDepthDecoder>(
                                              p.feature_dim, p.embed_dim, p.num_deconv_filters));
    depth_pred_layer_ = register_module("depth_pred_layer", std::make_shared<Sequential>());
    depth_pred_layer_->push_back(vpd_conv(p.embed_dim, p.embed_dim, 3));
    depth_pred_layer_->push_back(relu_cfg()->build(false));
    depth_pred_layer_->push_back(vpd_conv(p.embed_dim, 1, 3));
    for (const auto& spec : p.loss_decode.values) depth_losses_.push_back(spec.build());
  }

  bool estimates_depth() const override { return true; }

  /// \return depth in (0, max_depth), [N, 1, h, w].
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    const auto coarse = resize(maps[3], map_size(maps[2]), false, "nearest");
    auto x = at::cat({conv1_->forward(maps[0]), conv2_->forward(maps[1]), maps[2], coarse}, 1);
    x = conv_aggregation_->forward(x);
    x = x.slice(2, 0, x.size(2) - p_.fmap_border.h).slice(3, 0, x.size(3) - p_.fmap_border.w);
    x = depth_pred_layer_->forward(decoder_->forward(x.contiguous()));
    return full_precision(x).sigmoid() * p_.max_depth;
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto depth =
        resize(forward(features), map_size(targets.depth), p_.align_corners).squeeze(1);
    LossMap out;
    for (const auto& loss : depth_losses_) {
      add_loss(out, loss->loss_name(), (*loss)(depth, targets.depth));
    }
    return out;
  }

 private:
  Params p_;
  std::shared_ptr<Sequential> conv1_, conv_aggregation_, depth_pred_layer_;
  std::shared_ptr<Conv2d> conv2_;
  std::shared_ptr<VPDDepthDecoder> decoder_;
  std::vector<std::unique_ptr<DepthLoss>> depth_losses_;
};
SEG_REGISTER(DecodeHead, VPDDepthHead);

}  // namespace seg
