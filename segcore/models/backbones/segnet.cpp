#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/vgg.hpp"
#include "segcore/models/blocks/unpool.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SegNetParams {
  int64_t depth = 16;
  int64_t in_channels = 3;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN}");
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

/// VGG with batch norms and its mirror image, which enlarges maps by the places of the maxima that
/// the encoder took. The one map has the image's size; a 3x3 convolution classifies it
/// (ClassifierHead), as the last one of the decoder.
///
/// Children `features`, named as torchvision's, whose weights load, and `decoder`.
class SegNet final : public Backbone {
 public:
  using Params = SegNetParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("VGG and its mirror image, with the places of the maxima.")
        .source("Badrinarayanan et al. 2015, arXiv:1511.00561")
        .optional("depth", &P::depth, "layers with weights of VGG", one_of_vgg_depths())
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "norms of the decoder")
        .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation");
  }

  explicit SegNet(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)),
        features_(register_module(
            "features", std::make_shared<VGGLayers>(VGGLayersOptions{
                            .depth = p.depth, .with_bn = true, .in_channels = p.in_channels}))) {
    const auto convs = vgg_convs(p.depth);
    decoder_ = register_module("decoder", std::make_shared<ListOf<Sequential>>());
    for (size_t stage = convs.size(); stage-- > 0;) {
      const int64_t width = VGGLayers::width(stage);
      // The classifier is the last convolution of the last stage.
      const int64_t count = stage == 0 ? convs[0] - 1 : convs[stage];
      auto layers = std::make_shared<Sequential>();
      for (int64_t i = 0; i < count; ++i) {
        const bool narrows = stage > 0 && i + 1 == count;
        layers->push_back(
            padded_conv(width, narrows ? VGGLayers::width(stage - 1) : width, 3, 1, p.norm_cfg));
      }
      decoder_->push_back(layers);
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> places;
    std::vector<Size2> sizes;
    auto x = images;
    for (size_t i = 0; i < features_->num_stages(); ++i) {
      x = features_->run_stage(i, x);
      sizes.push_back(map_size(x));
      auto pooled = pool_with_places(x);
      places.push_back(pooled.places);
      x = pooled.values;
    }
    for (const auto& stage : *decoder_) {
      x = forward_block(*stage, unpool(x, places.back(), sizes.back()));
      places.pop_back();
      sizes.pop_back();
    }
    return {x};
  }
  std::vector<FeatureInfo> features() const override {
    return {{.channels = VGGLayers::width(0), .stride = 1}};
  }

 private:
  std::shared_ptr<VGGLayers> features_;
  std::shared_ptr<ListOf<Sequential>> decoder_;
};
SEG_REGISTER(Backbone, SegNet);

}  // namespace seg
