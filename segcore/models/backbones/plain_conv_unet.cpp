#include <algorithm>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PlainConvUNetParams {
  int64_t in_channels = 3;
  int64_t num_stages = 8;
  int64_t base_channels = 32;
  int64_t max_channels = 512;
  int64_t num_convs = 2;
  std::vector<int64_t> out_indices{0, 1, 2, 3, 4};
  NormCfg norm_cfg = norm_cfg_of("{type: IN2d, affine: true}");
  ActCfg act_cfg = act_cfg_of("{type: LeakyReLU, negative_slope: 0.01}");
  InitCfg init_cfg;
};

/// The plain U-Net of nnU-Net: strided convolutions downwards, transposed ones upwards, two
/// convolutions a stage. Each stage of the decoder gives a map, finest first, so that auxiliary
/// heads supervise the coarser ones ("deep supervision").
class PlainConvUNet final : public Backbone {
 public:
  using Params = PlainConvUNetParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("The plain U-Net of nnU-Net, with a map of each stage of its decoder.")
        .source("Isensee et al. 2021, doi:10.1038/s41592-020-01008-z")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("num_stages", &P::num_stages, "stages of the encoder", at_least(2))
        .optional("base_channels", &P::base_channels,
                  "width of the first stage; each doubles that of the one before", at_least(1))
        .optional("max_channels", &P::max_channels, "the most that a stage has", at_least(1))
        .optional("num_convs", &P::num_convs, "3x3 convolutions of each stage", at_least(1))
        .optional("out_indices", &P::out_indices,
                  "maps of the decoder, 0 at the image's size, 1 at half of it, ...", at_least(0))
        .optional("norm_cfg", &P::norm_cfg, "type of the norms")
        .optional("act_cfg", &P::act_cfg, "type of the activations")
        .optional("init_cfg", &P::init_cfg, "initialisation; null: He's for leaky ReLUs")
        .validate([](const P& p, Problems& problems) {
          for (const int64_t i : p.out_indices) {
            if (i < p.num_stages - 1) continue;
            problems.error("out_indices", text("there is no map ", i, ": the decoder has ",
                                               p.num_stages - 1, ", counted from 0"));
          }
        });
  }

  explicit PlainConvUNet(const Params& p)
      : Backbone(p.init_cfg ? p.init_cfg
                            : init_cfg_of("{type: Kaiming, a: 0.01, mode: fan_in, nonlinearity: "
                                          "leaky_relu, layer: [Conv2d, ConvTranspose2d]}")),
        params_(p) {
    encoder_ = register_module("encoder", std::make_shared<ListOf<Sequential>>());
    up_ = register_module("up", std::make_shared<ListOf<ConvTranspose2d>>());
    decoder_ = register_module("decoder", std::make_shared<ListOf<Sequential>>());
    for (int64_t i = 0; i < p.num_stages; ++i) {
      encoder_->push_back(convs(i == 0 ? p.in_channels : width(i - 1), width(i), i == 0 ? 1 : 2));
    }
    const int64_t finest = *std::ranges::min_element(p.out_indices);
    for (int64_t i = p.num_stages - 1; i-- > finest;) {
      up_->push_back(std::make_shared<ConvTranspose2d>(width(i + 1), width(i), /*kernel_size=*/2,
                                                       /*stride=*/2, /*padding=*/0));
      decoder_->push_back(convs(2 * width(i), width(i), 1));
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> skips{images};
    for (const auto& stage : *encoder_) skips.push_back(forward_block(*stage, skips.back()));
    auto x = skips.back();
    std::vector<torch::Tensor> maps(static_cast<size_t>(params_.num_stages));
    for (size_t i = 0; i < up_->size(); ++i) {
      const size_t stage = encoder_->size() - 2 - i;
      const auto& skip = skips[stage + 1];
      const Size2 size = map_size(skip);
      // A stage of an odd side halved to its larger half.
      x = (*up_)[i].forward(x).slice(2, 0, size.h).slice(3, 0, size.w);
      x = forward_block((*decoder_)[i], joined_maps({x, skip}));
      maps[stage] = x;
    }
    return chosen_by(params_.out_indices, maps);
  }
  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    for (const int64_t i : params_.out_indices) out.push_back({width(i), int64_t{1} << i});
    return out;
  }

 private:
  int64_t width(int64_t stage) const {
    return std::min(params_.base_channels << stage, params_.max_channels);
  }
  std::shared_ptr<Sequential> convs(int64_t in, int64_t out, int64_t stride) const {
    auto layers = std::make_shared<Sequential>();
    for (int64_t i = 0; i < params_.num_convs; ++i) {
      layers->push_back(
          std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = i == 0 ? in : out,
                                                         .out_channels = out,
                                                         .kernel_size = 3,
                                                         .stride = i == 0 ? stride : 1,
                                                         .padding = 1,
                                                         .bias = true,
                                                         .norm_cfg = params_.norm_cfg,
                                                         .act_cfg = params_.act_cfg}));
    }
    return layers;
  }

  Params params_;
  std::shared_ptr<ListOf<Sequential>> encoder_, decoder_;
  std::shared_ptr<ListOf<ConvTranspose2d>> up_;
};
SEG_REGISTER(Backbone, PlainConvUNet);

}  // namespace seg
