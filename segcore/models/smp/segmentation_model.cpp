#include "segcore/models/smp/segmentation_model.hpp"

#include <algorithm>

#include "segcore/models/blocks/whole_squares.hpp"
#include "segcore/models/smp/encoder_of_backbone.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {
namespace {

InitCfg model_init(const InitCfg& given, bool initialised, bool classifier) {
  if (!initialised) return given;
  auto rules =
      init_cfg_of(text("[{type: Xavier, distribution: uniform, override: "
                       "[{name: segmentation_head}",
                       classifier ? ", {name: classification_head}" : "", "]}]"));
  if (given) {
    for (const auto& rule : given->values) rules->values.push_back(rule);
  }
  return rules;
}

OneOrMany<Spec<Loss>> default_smp_loss(int64_t classes) {
  OneOrMany<Spec<Loss>> out;
  out.values.push_back(Spec<Loss>::of(
      text("{type: CrossEntropyLoss, use_sigmoid: ", classes == 1 ? "true" : "false", "}")));
  return out;
}

/// The decoders join maps that halve from one to the next.
void check_strides(const std::string& name, const Encoder& encoder, int64_t output_stride) {
  std::vector<int64_t> given, joined;
  for (const auto& map : encoder.maps()) {
    joined.push_back(std::min(int64_t{1} << given.size(), output_stride));
    given.push_back(map.stride);
  }
  if (given == joined) return;
  throw OptionError("encoder_name",
                    text(name, " gives maps of the strides ", join(given, ", "),
                         ", but this decoder joins those of ", join(joined, ", "),
                         ": take another encoder, or this one as the backbone of another head"));
}

}  // namespace

Schema<AuxParams> AuxParams::schema() {
  return Schema<AuxParams>("A head that classifies whole images by the encoder's last map.")
      .required("classes", &AuxParams::classes, "its outputs", at_least(1))
      .optional("pooling", &AuxParams::pooling, "how the map becomes one vector",
                one_of({"avg", "max"}))
      .optional("dropout", &AuxParams::dropout, "probability of a value to be zeroed",
                in_range(0, 1))
      .optional("activation", &AuxParams::activation, "function of the output; null: none",
                one_of(output_activations()));
}

SegmentationModel::SegmentationModel(const ModelParams& p, int64_t output_stride, bool initialised)
    : LogitSegmentor(model_init(p.init_cfg, initialised, p.aux_params.has_value()), p.test_cfg,
                     p.data_preprocessor),
      classes_(p.classes),
      ignore_index_(p.ignore_index.value_or(-100)),
      threshold_(p.threshold),
      activation_(p.activation),
      aux_(p.aux_params) {
  EncoderOptions options{.in_channels = p.in_channels,
                         .depth = p.encoder_depth,
                         .output_stride = output_stride,
                         .weights = p.encoder_weights};
  if (p.encoder) {
    options.weights.reset();
    encoder_ = encoder_of(p.encoder->build(), options);
  } else {
    encoder_ = build_encoder(p.encoder_name, options);
    check_strides(p.encoder_name, *encoder_, output_stride);
  }
  register_module("encoder", encoder_->module());
  if (bands() && *bands() != p.in_channels) {
    throw OptionError(
        "in_channels",
        text("is ", p.in_channels, ", but the encoder takes images of ", *bands(), " bands"));
  }
  losses_ = register_losses(*this, p.loss_decode.value_or(default_smp_loss(classes_)), classes_);
}

void SegmentationModel::set_decoder(const std::shared_ptr<Decoder>& decoder,
                                    const HeadOptions& head) {
  decoder_ = register_module("decoder", decoder);
  head_ = std::make_shared<Sequential>();
  head_->push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = head.in_channels,
                                                        .out_channels = classes_,
                                                        .kernel_size = head.kernel_size,
                                                        .padding = head.kernel_size / 2}));
  if (head.upsampling > 1) {
    head_->push_back(std::make_shared<Lambda>([head](const torch::Tensor& x) {
      return resize_by(x, static_cast<double>(head.upsampling), /*align_corners=*/true);
    }));
  }
  register_module("segmentation_head", head_);
  if (!aux_) return;
  classifier_ = std::make_shared<Sequential>();
  classifier_->push_back(
      std::make_shared<Lambda>([max = aux_->pooling == "max"](const torch::Tensor& x) {
        return max ? std::get<0>(at::adaptive_max_pool2d(x, {1, 1}))
                   : at::adaptive_avg_pool2d(x, {1, 1});
      }));
  classifier_->push_back(
      std::make_shared<Lambda>([](const torch::Tensor& x) { return x.flatten(1); }));
  classifier_->push_back(std::make_shared<Dropout>(aux_->dropout));
  classifier_->push_back(std::make_shared<Linear>(encoder_->out_channels().back(), aux_->classes));
  leave_untrained(*register_module("classification_head", classifier_));
}

void SegmentationModel::require_halves() const {
  if (encoder_->facts().halves) return;
  throw OptionError("encoder_name",
                    text(encoder_->facts().name,
                         " does not pad its convolutions, so that its maps "
                         "are not halves of each other, which ",
                         python_names().front(),
                         " joins as they are: take Unet, which resizes them, or another encoder"));
}

void SegmentationModel::require_half_size_map() const {
  if (encoder_->out_channels().at(1) > 0) return;
  throw OptionError("encoder", text("gives no map of stride 2, which ", python_names().front(),
                                    " joins: take another encoder"));
}

std::vector<torch::Tensor> SegmentationModel::extract_feat(const torch::Tensor& images) {
  if (needs_whole_strides()) {
    whole_squares(images, encoder_->output_stride(), "this " + python_names().front());
  }
  return encoder_->forward(images);
}

torch::Tensor SegmentationModel::logits(const torch::Tensor& images, const std::vector<int64_t>&) {
  return head_->forward(decoder_->forward(extract_feat(images)));
}

LossMap SegmentationModel::compute_loss(const torch::Tensor& images, const Targets& targets) {
  check_targets(targets, /*learns_depth=*/false);
  LossMap out;
  for (const auto& [name, value] :
       losses_of(losses_, /*sampler=*/nullptr, logits(images, targets.categories), targets.labels,
                 ignore_index_, align_corners())) {
    out.emplace_back("decode." + name, value);
  }
  return out;
}

torch::Tensor SegmentationModel::classify(const torch::Tensor& images) {
  SEG_CHECK(classifier_, "the model has no aux_params");
  return output_activation(aux_->activation, classifier_->forward(extract_feat(images).back()));
}

}  // namespace seg::smp
