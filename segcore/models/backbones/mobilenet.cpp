#include "segcore/models/backbones/mobilenet.hpp"

#include <utility>

#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<MobileNetParams> MobileNetParams::schema() {
  using P = MobileNetParams;
  return Schema<P>("Options of every MobileNet.")
      .optional("conv_cfg", &P::conv_cfg, "type of the convolutions")
      .optional("norm_cfg", &P::norm_cfg, "type of the norms")
      .optional("norm_eval", &P::norm_eval, "batch norms keep their running statistics")
      .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation")
      .validate([](const P& p, Problems& problems) {
        if (p.pretrained && p.init_cfg) {
          problems.error("pretrained", "cannot be combined with init_cfg");
        }
      });
}

MobileNet::MobileNet(const MobileNetParams& p)
    : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), p_(p) {}

std::shared_ptr<ConvModule> MobileNet::make_stem(int64_t out_channels, const ConvCfg& conv_cfg,
                                                 const ActCfg& act_cfg) const {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p_.in_channels,
                                                        .out_channels = out_channels,
                                                        .kernel_size = 3,
                                                        .stride = 2,
                                                        .padding = 1,
                                                        .conv_cfg = conv_cfg,
                                                        .norm_cfg = p_.norm_cfg,
                                                        .act_cfg = act_cfg});
}

void MobileNet::add(const std::string& name, std::shared_ptr<Layer> layer, int64_t channels,
                    int64_t stride) {
  if (gives_stage(p_.out_indices, layers_.size())) {
    features_.push_back({.channels = channels, .stride = stride});
  }
  layers_.push_back(register_module(name, std::move(layer)));
}

std::vector<torch::Tensor> MobileNet::forward(const torch::Tensor& images) {
  auto x = images;
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < layers_.size(); ++i) {
    x = layers_[i]->forward(x);
    if (gives_stage(p_.out_indices, i)) out.push_back(x);
  }
  return out;
}

void MobileNet::freeze_layers(int64_t count) {
  for (int64_t i = 0; i < count; ++i) freeze_module(*layers_[static_cast<size_t>(i)]);
}

void MobileNet::train(bool on) {
  Backbone::train(on);
  freeze_stages();
  if (on && p_.norm_eval) freeze_batch_norms(*this);
}

}  // namespace seg
