#include "segcore/models/blocks/deeplab_aspp.hpp"
#include "segcore/models/torchvision/torchvision_model.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

constexpr TorchvisionBackbone kDeepLabBackbones[] = {
    {"resnet50", "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth"},
    {"resnet101", "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth"},
    {.name = "mobilenet_v3_large",
     .address = "https://download.pytorch.org/models/deeplabv3_mobilenet_v3_large-fc3c493d.pth",
     .output_stride = 16,
     .fine_layer = "features.4",
     .fine_channels = 40,
     .last_layer = "features.16",
     .last_channels = 960,
     .bare_features = true},
};

/// The pyramid, a 3x3 convolution and one to the classes.
std::shared_ptr<Sequential> deeplab_head(int64_t in, int64_t num_classes) {
  constexpr int64_t kWidth = 256;
  auto layers = std::make_shared<Sequential>();
  layers->push_back(std::make_shared<DeepLabAspp>(DeepLabAsppOptions{.in = in, .out = kWidth}));
  layers->push_back(deeplab_conv(kWidth, kWidth, 3));
  layers->push_back(Spec<Norm>::of("{type: BN}").build(kWidth));
  layers->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
  layers->push_back(
      std::make_shared<Conv2d>(ConvOptions{.in_channels = kWidth, .out_channels = num_classes}));
  return layers;
}

}  // namespace

/// torchvision's deeplabv3_resnet50, deeplabv3_resnet101 and deeplabv3_mobilenet_v3_large.
class TorchvisionDeepLabV3 final : public TorchvisionAuxModel {
 public:
  using Params = TorchvisionAuxParams;
  static Schema<Params> schema() {
    auto schema = torchvision_schema<Params>(
        "torchvision's DeepLabV3: dilated convolutions side by side.", kDeepLabBackbones);
    return add_aux_options(schema).source("Chen et al. 2017, arXiv:1706.05587");
  }
  explicit TorchvisionDeepLabV3(const Params& p)
      : TorchvisionAuxModel(p, torchvision_backbone(kDeepLabBackbones, p.backbone)) {
    set_classifier([&](int64_t in) { return deeplab_head(in, p.num_classes); });
  }
};
SEG_REGISTER(Segmentor, TorchvisionDeepLabV3);

}  // namespace seg
