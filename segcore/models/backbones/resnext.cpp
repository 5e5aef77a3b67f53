#include "segcore/models/backbones/resnet.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// A ResNet whose 3x3 convolutions work on groups of channels.
class ResNeXt final : public ResNet {
 public:
  using Params = GroupedResNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Residual network with grouped convolutions.")
        .source("Xie et al. 2016, arXiv:1611.05431")
        .include(GroupedResNetParams::schema({50, 101, 152}))
        .optional("deep_stem", &Params::deep_stem, "a stem of three 3x3 convolutions")
        .optional("avg_down", &Params::avg_down, "shortcuts that stride pool first");
  }
  explicit ResNeXt(const Params& p)
      : ResNet(p.heeded(), resnet_blocks(p.depth), ResBottleneck::kExpansion,
               [p](ResBlockOptions o) -> std::shared_ptr<Layer> {
                 o.zero_init = false;
                 return std::make_shared<ResBottleneck>(o, p.middle(o));
               }) {}
};

SEG_REGISTER(Backbone, ResNeXt);

}  // namespace seg
