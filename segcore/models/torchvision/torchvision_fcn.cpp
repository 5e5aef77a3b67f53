#include "segcore/models/torchvision/torchvision_model.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

constexpr TorchvisionBackbone kFcnBackbones[] = {
    {"resnet50", "https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth"},
    {"resnet101", "https://download.pytorch.org/models/fcn_resnet101_coco-7ecb50ca.pth"},
};

}  // namespace

/// torchvision's fcn_resnet50 and fcn_resnet101.
class TorchvisionFCN final : public TorchvisionAuxModel {
 public:
  using Params = TorchvisionAuxParams;
  static Schema<Params> schema() {
    auto schema = torchvision_schema<Params>(
        "torchvision's FCN: two convolutions on a dilated ResNet.", kFcnBackbones);
    return add_aux_options(schema).source("Long et al. 2014, arXiv:1411.4038");
  }
  explicit TorchvisionFCN(const Params& p)
      : TorchvisionAuxModel(p, torchvision_backbone(kFcnBackbones, p.backbone)) {
    set_classifier([&](int64_t in) { return torchvision_fcn_head(in, p.num_classes); });
  }
};
SEG_REGISTER(Segmentor, TorchvisionFCN);

}  // namespace seg
