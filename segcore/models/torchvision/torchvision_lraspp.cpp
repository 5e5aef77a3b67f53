#include "segcore/models/blocks/deeplab_aspp.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/torchvision/torchvision_model.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

constexpr TorchvisionBackbone kLrasppBackbones[] = {
    {.name = "mobilenet_v3_large",
     .address = "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-d234d4ea.pth",
     .output_stride = 16,
     .fine_layer = "features.4",
     .fine_channels = 40,
     .last_layer = "features.16",
     .last_channels = 960,
     .bare_features = true},
};

}  // namespace

struct TorchvisionLrasppParams : TorchvisionParams {
  TorchvisionLrasppParams() { backbone = "mobilenet_v3_large"; }
};

/// The last map, its channels scaled by their means, and a finer map: each is classified, and the
/// logits are summed. Children `cbr`, `scale`, `low_classifier`, `high_classifier`.
class LrasppHead final : public BaseModule {
 public:
  struct Options {
    int64_t low, high;  ///< channels of the finer and of the last map
    int64_t num_classes;
  };
  explicit LrasppHead(const Options& o)
      : cbr_(register_module("cbr", deeplab_block(deeplab_conv(o.high, kWidth, 1), kWidth))),
        scale_(register_module("scale", std::make_shared<Sequential>())) {
    scale_->push_back(global_average());
    scale_->push_back(deeplab_conv(o.high, kWidth, 1));
    const auto classifier = [&](int64_t in) {
      return std::make_shared<Conv2d>(
          ConvOptions{.in_channels = in, .out_channels = o.num_classes});
    };
    low_classifier_ = register_module("low_classifier", classifier(o.low));
    high_classifier_ = register_module("high_classifier", classifier(kWidth));
  }
  torch::Tensor forward(const torch::Tensor& low, const torch::Tensor& high) {
    const auto scaled = cbr_->forward(high) * scale_->forward(high).sigmoid();
    return low_classifier_->forward(low) + high_classifier_->forward(resize(scaled, map_size(low)));
  }

 private:
  static constexpr int64_t kWidth = 128;
  std::shared_ptr<Sequential> cbr_, scale_;
  std::shared_ptr<Conv2d> low_classifier_, high_classifier_;
};

/// torchvision's lraspp_mobilenet_v3_large.
class TorchvisionLRASPP final : public TorchvisionModel {
 public:
  using Params = TorchvisionLrasppParams;
  static Schema<Params> schema() {
    return torchvision_schema<Params>("torchvision's LR-ASPP: a light head on a MobileNetV3.",
                                      kLrasppBackbones)
        .source("Howard et al. 2019, arXiv:1905.02244");
  }
  explicit TorchvisionLRASPP(const Params& p)
      : TorchvisionModel(p, torchvision_backbone(kLrasppBackbones, p.backbone), /*fine=*/true),
        classifier_(register_module(
            "classifier", std::make_shared<LrasppHead>(LrasppHead::Options{
                              kLrasppBackbones[0].fine_channels, kLrasppBackbones[0].last_channels,
                              p.num_classes}))) {}

 protected:
  torch::Tensor classify(const std::vector<torch::Tensor>& maps) override {
    return classifier_->forward(maps.front(), maps.back());
  }

 private:
  std::shared_ptr<LrasppHead> classifier_;
};
SEG_REGISTER(Segmentor, TorchvisionLRASPP);

}  // namespace seg
