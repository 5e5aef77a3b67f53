#include "registry/changed_spec.hpp"
#include "segcore/models/open_vocabulary/text_encoder.hpp"
#include "segcore/models/open_vocabulary/vocabulary_head.hpp"
#include "segcore/models/segmentors/logit_segmentor.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MultimodalEncoderDecoderParams {
  Spec<Backbone> image_encoder;
  Spec<TextEncoder> text_encoder;
  Spec<VocabularyHead> decode_head;
  bool asymetric_input = true;
  std::optional<double> encoder_resolution;
  std::optional<TestCfg> test_cfg;
  std::optional<Spec<DataPreProcessor>> data_preprocessor;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

/// A part of the model that takes its weights from the model's file.
/// \param prefix  of its names there; null file: the part as it is.
template <class Part>
Spec<Part> with_weights_of(const Spec<Part>& part, const std::optional<std::string>& file,
                           const std::string& prefix) {
  if (!file) return part;
  Config config = part.config();
  if (const auto* own = config.find("init_cfg"); own && !own->value.is_null()) {
    throw OptionError("pretrained", text("is given besides ", part.path(), ".init_cfg"));
  }
  Config weights = pretrained_below(*file, prefix).config();
  weights.origin = config.origin;
  config.set("init_cfg", std::move(weights));
  return changed_spec(part, config);
}

}  // namespace

/// An image encoder and a text encoder, and a head that compares what both give.
class MultimodalEncoderDecoder final : public LogitSegmentor {
 public:
  using Params = MultimodalEncoderDecoderParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("An image encoder, a text encoder and a head that compares what both give.")
        .source("SAN, Xu et al. 2023, arXiv:2302.12242")
        .required("image_encoder", &P::image_encoder, "makes feature maps of the image")
        .required("text_encoder", &P::text_encoder, "embeds the names of the classes")
        .required("decode_head", &P::decode_head, "makes the scores of each pixel")
        .optional("asymetric_input", &P::asymetric_input,
                  "the image encoder sees the image at encoder_resolution")
        .optional("encoder_resolution", &P::encoder_resolution,
                  "factor of the image's sides for the image encoder", above(0))
        .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
        .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
        .optional("pretrained", &P::pretrained,
                  "checkpoint of CLIP, with the names image_encoder., text_encoder. and "
                  "decode_head.rec_with_attnbias.")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .accepted("train_cfg", "the head has its own")
        .validate([](const P& p, Problems& problems) {
          if (p.asymetric_input && !p.encoder_resolution) {
            problems.error("encoder_resolution", "is needed where asymetric_input is true");
          }
        });
  }
  static SegmentorFacts facts(const Params& p) {
    return {{{p.decode_head.facts().num_classes, "decode_head.num_classes"}}};
  }

  explicit MultimodalEncoderDecoder(const Params& p)
      : LogitSegmentor(p.init_cfg, p.test_cfg, p.data_preprocessor),
        resolution_(p.asymetric_input ? p.encoder_resolution : std::nullopt) {
    BuildErrors errors;
    errors.attempt([&] {
      image_encoder_ =
          register_module("image_encoder",
                          with_weights_of(p.image_encoder, p.pretrained, "image_encoder.").build());
    });
    errors.attempt([&] {
      text_encoder_ = register_module(
          "text_encoder", with_weights_of(p.text_encoder, p.pretrained, "text_encoder.").build());
    });
    errors.throw_if_any();
    head_ = register_module("decode_head", with_weights_of(p.decode_head, p.pretrained,
                                                           "decode_head.rec_with_attnbias.")
                                               .build(image_encoder_->features(), *text_encoder_));
  }

  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override {
    return image_encoder_->forward(resolution_ ? resize_by(images, *resolution_) : images);
  }
  LossMap compute_loss(const torch::Tensor& images, const Targets& targets) override {
    check_targets(targets, /*learns_depth=*/false);
    LossMap out;
    for (const auto& [name, value] : head_->loss(inputs(images), targets)) {
      out.emplace_back("decode." + name, value);
    }
    return out;
  }
  int64_t num_classes() const override { return head_->num_classes(); }
  int64_t ignore_index() const override { return head_->ignore_index(); }

 protected:
  torch::Tensor logits(const torch::Tensor& images, const std::vector<int64_t>&) override {
    return head_->predict(inputs(images));
  }
  bool align_corners() const override { return head_->align_corners(); }
  double threshold() const override {
    return 0.3;  // as mmseg's heads, for one class
  }

 private:
  VocabularyInputs inputs(const torch::Tensor& images) {
    return {images, extract_feat(images), text_encoder_->class_embeddings()};
  }

  std::optional<double> resolution_;
  std::shared_ptr<Backbone> image_encoder_;
  std::shared_ptr<TextEncoder> text_encoder_;
  std::shared_ptr<VocabularyHead> head_;
};

SEG_REGISTER(Segmentor, MultimodalEncoderDecoder);

}  // namespace seg
