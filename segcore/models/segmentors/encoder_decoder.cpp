#include "segcore/models/segmentors/encoder_decoder.hpp"

#include "registry/changed_spec.hpp"
#include "segcore/models/nn/batch_norm.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<EncoderDecoderParams> EncoderDecoder::schema() {
  using P = EncoderDecoderParams;
  return Schema<P>("A backbone, an optional neck, a decode head and auxiliary heads.")
      .required("backbone", &P::backbone, "makes feature maps of the image")
      .optional("neck", &P::neck, "between backbone and heads; null: none")
      .required("decode_head", &P::decode_head, "makes the scores of each pixel")
      .optional("auxiliary_head", &P::auxiliary_head, "further heads, only in training; null: none")
      .optional("train_cfg", &P::train_cfg, "for heads that sample points")
      .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
      .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
      .optional("pretrained", &P::pretrained, "checkpoint of the backbone")
      .optional("init_cfg", &P::init_cfg, "initialisation");
}

namespace {

/// The backbone, with the model's `pretrained` as its own.
Spec<Backbone> encoder_decoder_backbone(const EncoderDecoderParams& p) {
  if (!p.pretrained) return p.backbone;
  Config config = p.backbone.config();
  if (const auto* own = config.find("pretrained"); own && !own->value.is_null()) {
    throw OptionError("pretrained", "is given for the model and for its backbone");
  }
  Config checkpoint = Config::of(*p.pretrained);
  checkpoint.origin = config.origin;
  config.set("pretrained", std::move(checkpoint));
  return changed_spec(p.backbone, config);
}

void append_classes(SegmentorFacts& facts, const std::string& role,
                    const OneOrMany<Spec<DecodeHead>>& heads) {
  for (size_t i = 0; i < heads.values.size(); ++i) {
    const std::string place = heads.is_list ? text(role, '.', i) : role;
    const DecodeHeadFacts head = heads.values[i].facts();
    if (head.num_classes > 0) {
      facts.heads.push_back({head.num_classes, place + "." + head.option});
    }
  }
}

/// \param previous  the output of the head before; undefined for the first.
torch::Tensor head_output(DecodeHead& head, const std::vector<torch::Tensor>& features,
                          const torch::Tensor& previous) {
  if (!previous.defined()) return head.forward(features);
  return static_cast<CascadeDecodeHead&>(head).forward(features, previous);
}

}  // namespace

SegmentorFacts EncoderDecoder::facts(const Params& p) {
  SegmentorFacts out;
  if (p.auxiliary_head) append_classes(out, "auxiliary_head", *p.auxiliary_head);
  append_classes(out, "decode_head", p.decode_head);
  return out;
}

EncoderDecoder::EncoderDecoder(const Params& p) : EncoderDecoder(p, Kind::kPlain) {}

EncoderDecoder::EncoderDecoder(const Params& p, Kind kind)
    : LogitSegmentor(p.init_cfg, p.test_cfg, p.data_preprocessor), kind_(kind) {
  const bool cascade = kind == Kind::kCascade;
  if (p.decode_head.is_list != cascade) {
    throw OptionError("decode_head", cascade ? "must be a list of heads, one a stage"
                                             : "must be one head; a list needs the type "
                                               "CascadeEncoderDecoder");
  }
  backbone_ = register_module("backbone", encoder_decoder_backbone(p).build());
  by_category_ = dynamic_cast<TakesCategories*>(backbone_.get());
  auto features = backbone_->features();
  if (p.neck) {
    std::erase_if(features, [](const FeatureInfo& f) { return f.is_token(); });
    neck_ = register_module("neck", p.neck->build(features));
    features = neck_->features();
  }
  BuildErrors errors;
  if (cascade) {
    auto list = register_module("decode_head", std::make_shared<PlainListOf<DecodeHead>>());
    for (const auto& spec : p.decode_head.values) {
      errors.attempt([&] { heads_.push_back(list->push_back(spec.build(features))); });
    }
  } else {
    errors.attempt([&] {
      heads_.push_back(register_module("decode_head", p.decode_head.values.at(0).build(features)));
    });
  }
  if (p.auxiliary_head) {
    auxiliary_list_ = p.auxiliary_head->is_list;
    if (auxiliary_list_) {
      auto list = register_module("auxiliary_head", std::make_shared<PlainListOf<DecodeHead>>());
      for (const auto& spec : p.auxiliary_head->values) {
        errors.attempt([&] { auxiliary_.push_back(list->push_back(spec.build(features))); });
      }
    } else {
      errors.attempt([&] {
        auxiliary_.push_back(
            register_module("auxiliary_head", p.auxiliary_head->values.at(0).build(features)));
      });
    }
  }
  errors.throw_if_any();
  check_heads(p);
  const TrainCfg train_cfg = p.train_cfg.value_or(TrainCfg{});
  for (const auto& head : heads_) head->configure(train_cfg, test_cfg());
  for (const auto& head : auxiliary_) head->configure(train_cfg, test_cfg());
}

void EncoderDecoder::check_heads(const Params& p) const {
  for (size_t i = 0; i < heads_.size(); ++i) {
    const bool refines = dynamic_cast<CascadeDecodeHead*>(heads_[i].get()) != nullptr;
    if (refines && i == 0) {
      throw OptionError("decode_head", text(p.decode_head.values[i].type(),
                                            " refines another head's output and "
                                            "cannot come first: use CascadeEncoderDecoder"));
    }
    if (!refines && i > 0) {
      throw OptionError("decode_head", text(p.decode_head.values[i].type(),
                                            " refines no other head's output: it can only be the "
                                            "first of a cascade"));
    }
  }
  const bool depth = kind_ == Kind::kDepth;
  const auto check_kind = [&](const std::vector<std::shared_ptr<DecodeHead>>& heads,
                              const std::string& role, const OneOrMany<Spec<DecodeHead>>& specs) {
    for (size_t i = 0; i < heads.size(); ++i) {
      if (heads[i]->estimates_depth() == depth) continue;
      throw OptionError(
          role, specs.values[i].type() +
                    (depth ? " predicts classes: DepthEstimator needs a head that estimates depth, "
                             "such as VPDDepthHead"
                           : " estimates depth: use the type DepthEstimator"));
    }
  };
  check_kind(heads_, "decode_head", p.decode_head);
  if (p.auxiliary_head) check_kind(auxiliary_, "auxiliary_head", *p.auxiliary_head);
}

std::vector<torch::Tensor> EncoderDecoder::extract_feat(const torch::Tensor& images) {
  return features(images, {});
}

std::vector<torch::Tensor> EncoderDecoder::features(const torch::Tensor& images,
                                                    const std::vector<int64_t>& categories) {
  auto features = by_category_ ? by_category_->forward_categories(images, categories)
                               : backbone_->forward(images);
  if (!neck_) return features;
  const auto infos = backbone_->features();
  std::vector<torch::Tensor> maps;
  for (size_t i = 0; i < features.size(); ++i) {
    if (!infos[i].is_token()) maps.push_back(std::move(features[i]));
  }
  return neck_->forward(maps);
}

torch::Tensor EncoderDecoder::logits(const torch::Tensor& images,
                                     const std::vector<int64_t>& categories) {
  const auto features = this->features(images, categories);
  const Size2 size = map_size(images);
  if (heads_.size() == 1) return heads_[0]->predict(features, size);
  torch::Tensor previous;
  for (size_t i = 0; i + 1 < heads_.size(); ++i) {
    previous = head_output(*heads_[i], features, previous);
  }
  return static_cast<CascadeDecodeHead&>(last_head()).predict(features, previous, size);
}

LossMap EncoderDecoder::compute_loss(const torch::Tensor& images, const Targets& targets) {
  check_targets(targets, kind_ == Kind::kDepth);
  const auto features = this->features(images, targets.categories);
  LossMap out;
  const auto add = [&out](const std::string& prefix, const LossMap& losses) {
    for (const auto& [name, value] : losses) out.emplace_back(prefix + "." + name, value);
  };
  torch::Tensor previous;
  const auto loss = [&](size_t i) {
    if (i == 0) return heads_[0]->loss(features, targets);
    return static_cast<CascadeDecodeHead&>(*heads_[i]).loss(features, previous, targets);
  };
  for (size_t i = 0; i < heads_.size(); ++i) {
    const auto prefix = kind_ == Kind::kCascade ? text("decode_", i) : std::string("decode");
    if (i + 1 == heads_.size()) {
      add(prefix, loss(i));
    } else if (heads_[i]->repeats_output()) {
      // MMSegmentation computes the output a second time, which shows in running statistics alone.
      const FollowsBatchesTwice twice;
      auto output = head_output(*heads_[i], features, previous);
      add(prefix, heads_[i]->loss_by_feat(output, targets.labels));
      previous = std::move(output);
    } else {
      // Dropout may make the output differ from the one that the head's own loss saw.
      add(prefix, loss(i));
      previous = head_output(*heads_[i], features, previous);
    }
  }
  for (size_t i = 0; i < auxiliary_.size(); ++i) {
    add(auxiliary_list_ ? text("aux_", i) : std::string("aux"),
        auxiliary_[i]->loss(features, targets));
  }
  return out;
}

SEG_REGISTER(Segmentor, EncoderDecoder);

/// Heads in a row, each refining the output of the one before (OCRNet, PointRend).
class CascadeEncoderDecoder final : public EncoderDecoder {
 public:
  using Params = CascadeEncoderDecoderParams;
  static Schema<Params> schema() {
    return Schema<Params>("An encoder and a chain of decode heads.")
        .required("num_stages", &Params::num_stages, "number of decode heads", at_least(1))
        .include(EncoderDecoder::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.decode_head.is_list &&
              p.num_stages != static_cast<int64_t>(p.decode_head.values.size())) {
            problems.error("num_stages", text("is ", p.num_stages, ", but there are ",
                                              p.decode_head.values.size(), " decode heads"));
          }
        });
  }
  explicit CascadeEncoderDecoder(const Params& p) : EncoderDecoder(p, Kind::kCascade) {}
};
SEG_REGISTER(Segmentor, CascadeEncoderDecoder);

}  // namespace seg
