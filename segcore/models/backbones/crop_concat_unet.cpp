#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct CropConcatUNetParams {
  int64_t in_channels = 3;
  int64_t base_channels = 64;
  int64_t num_stages = 5;
  int64_t num_convs = 2;
  int64_t padding = 1;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  ActCfg act_cfg = relu_cfg();
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

/// The middle of a map, of a size that is no larger.
torch::Tensor cropped_to(const torch::Tensor& x, Size2 size) {
  const Size2 from = map_size(x);
  return x.narrow(2, (from.h - size.h) / 2, size.h).narrow(3, (from.w - size.w) / 2, size.w);
}

}  // namespace

/// A U-Net for images of any size: transposed convolutions of kernel 4 double a map exactly, and
/// the larger of the two maps that are joined is cropped. With `padding` 0, as in the paper, maps
/// lose a border with each convolution, and the result is smaller than the image.
class CropConcatUNet final : public Backbone {
 public:
  using Params = CropConcatUNetParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("U-Net that crops what it joins, for images of any size.")
        .source("Ronneberger et al. 2015, arXiv:1505.04597")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("base_channels", &P::base_channels,
                  "width of the first stage; each doubles that of the one before", at_least(1))
        .optional("num_stages", &P::num_stages, "stages of the encoder", at_least(1))
        .optional("num_convs", &P::num_convs, "3x3 convolutions of each stage", at_least(1))
        .optional("padding", &P::padding, "of the 3x3 convolutions: 1, or 0 as in the paper",
                  in_range(0, 1))
        .optional("norm_cfg", &P::norm_cfg, "type of the norms; null: none")
        .optional("act_cfg", &P::act_cfg, "type of the activations")
        .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation");
  }

  explicit CropConcatUNet(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), params_(p) {
    encoder_ = register_module("encoder", std::make_shared<ListOf<Sequential>>());
    up_ = register_module("up", std::make_shared<ListOf<ConvTranspose2d>>());
    decoder_ = register_module("decoder", std::make_shared<ListOf<Sequential>>());
    for (int64_t i = 0; i < p.num_stages; ++i) {
      encoder_->push_back(convs(i == 0 ? p.in_channels : width(i - 1), width(i)));
    }
    for (int64_t i = p.num_stages - 1; i-- > 0;) {
      up_->push_back(std::make_shared<ConvTranspose2d>(width(i + 1), width(i), /*kernel_size=*/4,
                                                       /*stride=*/2, /*padding=*/1));
      decoder_->push_back(convs(2 * width(i), width(i)));
    }
  }

  /// \throws DataError for images that nothing is left of.
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    check_size(map_size(images));
    std::vector<torch::Tensor> skips;
    auto x = images;
    for (size_t i = 0; i < encoder_->size(); ++i) {
      if (i > 0) x = at::max_pool2d(x, /*kernel_size=*/2);
      x = forward_block((*encoder_)[i], x);
      skips.push_back(x);
    }
    skips.pop_back();
    for (size_t i = 0; i < up_->size(); ++i) {
      x = (*up_)[i].forward(x);
      const auto skip = skips.back();
      skips.pop_back();
      const Size2 a = map_size(x), b = map_size(skip);
      const Size2 both{std::min(a.h, b.h), std::min(a.w, b.w)};
      x = forward_block((*decoder_)[i], at::cat({cropped_to(skip, both), cropped_to(x, both)}, 1));
    }
    return {x};
  }
  std::vector<FeatureInfo> features() const override {
    return {{.channels = params_.base_channels, .stride = 1}};
  }

 private:
  int64_t width(int64_t stage) const { return params_.base_channels << stage; }
  std::shared_ptr<Sequential> convs(int64_t in, int64_t out) const {
    auto layers = std::make_shared<Sequential>();
    for (int64_t i = 0; i < params_.num_convs; ++i) {
      layers->push_back(
          std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = i == 0 ? in : out,
                                                         .out_channels = out,
                                                         .kernel_size = 3,
                                                         .padding = params_.padding,
                                                         .norm_cfg = params_.norm_cfg,
                                                         .act_cfg = params_.act_cfg}));
    }
    return layers;
  }
  /// Follows the shorter side through the network.
  void check_size(Size2 image) const {
    const int64_t border = 2 * (1 - params_.padding) * params_.num_convs;
    int64_t side = std::min(image.h, image.w);
    std::vector<int64_t> skips;
    for (int64_t i = 0; i < params_.num_stages && side > 0; ++i) {
      side = (i > 0 ? side / 2 : side) - border;
      skips.push_back(side);
    }
    if (side > 0) skips.pop_back();
    for (; side > 0 && !skips.empty(); skips.pop_back()) {
      side = std::min(2 * side, skips.back()) - border;
    }
    if (side > 0) return;
    throw DataError(text("images of ", image.h, "x", image.w, " are too small for this ",
                         "CropConcatUNet of ", params_.num_stages,
                         " stages: nothing is left of "
                         "them. Take larger ones, fewer stages or padding: 1"));
  }

  Params params_;
  std::shared_ptr<ListOf<Sequential>> encoder_, decoder_;
  std::shared_ptr<ListOf<ConvTranspose2d>> up_;
};
SEG_REGISTER(Backbone, CropConcatUNet);

}  // namespace seg
