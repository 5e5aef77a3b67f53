#include "segcore/models/torchvision/torchvision_model.hpp"

#include <algorithm>
#include <utility>

#include "segcore/models/blocks/deeplab_aspp.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/precision.hpp"
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

/// The children of an encoder's child `features`, under their own names.
class BareFeatures final : public BaseModule, public AdaptsPretrained {
 public:
  explicit BareFeatures(std::shared_ptr<Encoder> encoder) : encoder_(std::move(encoder)) {
    for (const auto& layer : encoder_->named_children()[kFolder]->named_children()) {
      register_module(layer.key(), layer.value());
    }
    for (const auto& rule : encoder_->pretrained_rules()) {
      if (!init_cfg_) init_cfg_.emplace();
      init_cfg_->values.push_back(rule);
    }
  }
  void train(bool on = true) override {
    BaseModule::train(on);
    encoder_->train(on);
  }
  void init_weights() override { encoder_->init_weights(); }
  void adapt_pretrained(Value& state) const override {
    encoder_->adapt_pretrained(state);
    const std::string prefix = text(kFolder, ".");
    Value bare = Value::dict();
    for (const auto& [key, value] : state.as_dict()) {
      const std::string name = key.as_string();
      bare.set(name.starts_with(prefix) ? name.substr(prefix.size()) : name, value);
    }
    state = bare;
  }

 private:
  static constexpr const char* kFolder = "features";
  std::shared_ptr<Encoder> encoder_;
};

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
                                   bool fine)
    : LogitSegmentor(torchvision_init(p, backbone), p.test_cfg, p.data_preprocessor),
      num_classes_(p.num_classes),
      ignore_index_(p.ignore_index.value_or(-100)),
      encoder_(torchvision_encoder(p, backbone.output_stride)) {
  if (fine) taken_.push_back(backbone.fine_layer);
  taken_.push_back(backbone.last_layer);
  if (backbone.bare_features) {
    register_module("backbone", std::make_shared<BareFeatures>(encoder_));
  } else {
    register_module("backbone", encoder_->module());
  }
  losses_ = register_losses(*this, p.loss_decode.value_or(cross_entropy()), num_classes_);
}

std::vector<torch::Tensor> TorchvisionModel::extract_feat(const torch::Tensor& images) {
  return encoder_->outputs_of(taken_, images);
}

LossMap TorchvisionModel::compute_loss(const torch::Tensor& images, const Targets& targets) {
  check_targets(targets, /*learns_depth=*/false);
  const auto maps = extract_feat(images);
  LossMap out = losses_named("decode.", classify(maps), targets.labels, 1);
  add_losses(out, maps, targets.labels);
  return out;
}

LossMap TorchvisionModel::losses_named(const std::string& prefix, const torch::Tensor& logits,
                                       const torch::Tensor& labels, double weight) {
  LossMap out;
  for (const auto& [name, value] :
       losses_of(losses_, /*sampler=*/nullptr, logits, labels, ignore_index_, align_corners())) {
    const bool is_loss = name.find("loss") != std::string::npos;
    out.emplace_back(prefix + name, is_loss && weight != 1 ? value * weight : value);
  }
  return out;
}

TorchvisionAuxModel::TorchvisionAuxModel(const TorchvisionAuxParams& p,
                                         const TorchvisionBackbone& backbone)
    : TorchvisionModel(p, backbone, p.has_aux()),
      backbone_(backbone),
      has_aux_(p.has_aux()),
      aux_loss_weight_(p.aux_loss_weight) {}

void TorchvisionAuxModel::set_classifier(
    const std::function<std::shared_ptr<Layer>(int64_t in)>& make) {
  classifier_ = register_module("classifier", make(backbone_.last_channels));
  if (!has_aux_) return;
  aux_classifier_ = register_module("aux_classifier",
                                    torchvision_fcn_head(backbone_.fine_channels, num_classes()));
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
