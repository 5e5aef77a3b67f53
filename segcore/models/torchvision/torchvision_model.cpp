#include "segcore/models/torchvision/torchvision_model.hpp"

#include <algorithm>
#include <utility>

#include "segcore/models/blocks/deeplab_aspp.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The rules of the option `init_cfg`, then the weights of the whole model.
InitCfg torchvision_init(const TorchvisionParams& p, const TorchvisionBackbone& backbone) {
  InitCfg out = p.init_cfg;
  if (!p.weights) return out;
  if (!out) out.emplace();
  out->values.push_back(pretrained_from(
      published_address(text("this model with the backbone ", p.backbone), *p.weights,
                        {{"COCO_WITH_VOC_LABELS_V1", backbone.address}}, "weights")));
  return out;
}

std::shared_ptr<Encoder> torchvision_encoder(const TorchvisionParams& p, int64_t output_stride) {
  try {
    return build_plain_encoder("tv-" + p.backbone,
                               {.in_channels = p.in_channels,
                                .output_stride = output_stride,
                                .weights = p.weights ? std::nullopt : p.weights_backbone});
  } catch (const OptionError& e) {
    // The encoder's errors name the options of other models.
    throw OptionError(e.option() == "encoder_weights" ? "weights_backbone" : "backbone", e.what());
  }
}

OneOrMany<Spec<Loss>> cross_entropy() {
  OneOrMany<Spec<Loss>> out;
  out.values.push_back(Spec<Loss>::of("{type: CrossEntropyLoss, avg_non_ignore: true}"));
  return out;
}

}  // namespace

const TorchvisionBackbone& torchvision_backbone(std::span<const TorchvisionBackbone> backbones,
                                                const std::string& name) {
  const auto it =
      std::ranges::find_if(backbones, [&](const auto& backbone) { return backbone.name == name; });
  SEG_CHECK(it != backbones.end(), "no backbone is called '", name, "'");
  return *it;
}

TorchvisionModel::TorchvisionModel(const TorchvisionParams& p, const TorchvisionBackbone& backbone,
                                   std::vector<size_t> taken)
    : LogitSegmentor(torchvision_init(p, backbone), p.test_cfg, p.data_preprocessor),
      num_classes_(p.num_classes),
      ignore_index_(p.ignore_index.value_or(-100)),
      encoder_(torchvision_encoder(p, backbone.output_stride)),
      taken_(std::move(taken)) {
  register_module("backbone", encoder_->module());
  losses_ = register_losses(*this, p.loss_decode.value_or(cross_entropy()), num_classes_);
}

int64_t TorchvisionModel::channels_of(size_t taken) const {
  return encoder_->out_channels().at(taken_.at(taken));
}

std::vector<torch::Tensor> TorchvisionModel::extract_feat(const torch::Tensor& images) {
  const auto maps = encoder_->forward(images);
  std::vector<torch::Tensor> out;
  for (const size_t level : taken_) out.push_back(maps.at(level));
  return out;
}

LossMap TorchvisionModel::loss(const torch::Tensor& images, const Targets& targets) {
  check_targets(targets, /*learns_depth=*/false);
  const auto maps = extract_feat(images);
  LossMap out = losses_named("decode.", classify(maps), targets.labels, 1);
  add_losses(out, maps, targets.labels);
  return out;
}

LossMap TorchvisionModel::losses_named(const std::string& prefix, const torch::Tensor& logits,
                                       const torch::Tensor& labels, double weight) {
  const auto full = resize(full_precision(logits), map_size(labels), align_corners());
  LossMap out;
  for (const auto& [name, value] :
       losses_of(losses_, /*sampler=*/nullptr, full, labels, ignore_index_)) {
    const bool is_loss = name.find("loss") != std::string::npos;
    out.emplace_back(prefix + name, is_loss && weight != 1 ? value * weight : value);
  }
  return out;
}

TorchvisionAuxModel::TorchvisionAuxModel(const TorchvisionAuxParams& p,
                                         const TorchvisionBackbone& backbone)
    : TorchvisionModel(
          p, backbone,
          p.has_aux() ? std::vector<size_t>{backbone.fine_level, 5} : std::vector<size_t>{5}),
      has_aux_(p.has_aux()),
      aux_loss_weight_(p.aux_loss_weight) {}

void TorchvisionAuxModel::set_classifier(
    const std::function<std::shared_ptr<Layer>(int64_t in)>& make) {
  classifier_ = register_module("classifier", make(channels_of(has_aux_ ? 1 : 0)));
  if (!has_aux_) return;
  aux_classifier_ =
      register_module("aux_classifier", torchvision_fcn_head(channels_of(0), num_classes()));
}

void TorchvisionAuxModel::add_losses(LossMap& losses, const std::vector<torch::Tensor>& maps,
                                     const torch::Tensor& labels) {
  if (!has_aux_) return;
  for (auto& entry :
       losses_named("aux.", aux_classifier_->forward(maps.front()), labels, aux_loss_weight_)) {
    losses.push_back(std::move(entry));
  }
}

std::shared_ptr<Sequential> torchvision_fcn_head(int64_t in, int64_t num_classes) {
  const int64_t width = in / 4;
  auto layers = deeplab_block(deeplab_conv(in, width, 3), width);
  layers->push_back(std::make_shared<Dropout>(0.1));
  layers->push_back(
      std::make_shared<Conv2d>(ConvOptions{.in_channels = width, .out_channels = num_classes}));
  return layers;
}

}  // namespace seg
