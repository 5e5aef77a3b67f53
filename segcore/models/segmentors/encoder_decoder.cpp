#include "segcore/models/segmentors/encoder_decoder.hpp"

#include <algorithm>

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
      .optional("data_preprocessor", &P::data_preprocessor,
                "normalises and pads; null: as it is loaded")
      .optional("pretrained", &P::pretrained, "checkpoint of the backbone")
      .optional("init_cfg", &P::init_cfg, "initialisation");
}

EncoderDecoder::EncoderDecoder(const Params& p) : EncoderDecoder(p, false) {}

EncoderDecoder::EncoderDecoder(const Params& p, bool cascade)
    : Segmentor(p.init_cfg),
      cascade_(cascade),
      test_cfg_(p.test_cfg.value_or(TestCfg{})),
      pretrained_(p.pretrained) {
  if (p.pretrained) {
    const auto config = p.backbone.config();
    if (const auto* own = config.find("pretrained"); own && !own->value.is_null()) {
      throw OptionError("pretrained", "is given for the model and for its backbone");
    }
  }
  if (p.decode_head.is_list != cascade) {
    throw OptionError("decode_head", cascade ? "must be a list of heads, one a stage"
                                             : "must be one head; a list needs the type "
                                               "CascadeEncoderDecoder");
  }
  data_preprocessor_ = p.data_preprocessor
                           ? p.data_preprocessor->build()
                           : Spec<DataPreProcessor>::of("{type: SegDataPreProcessor}").build();
  backbone_ = register_module("backbone", p.backbone.build());
  auto features = backbone_->features();
  if (p.neck) {
    neck_ = register_module("neck", p.neck->build(features));
    features = neck_->features();
  }
  if (cascade) {
    auto list = register_module("decode_head", std::make_shared<ListOf<DecodeHead>>());
    for (const auto& spec : p.decode_head.values) {
      heads_.push_back(list->push_back(spec.build(features)));
    }
  } else {
    heads_.push_back(register_module("decode_head", p.decode_head.values.at(0).build(features)));
  }
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
  if (p.auxiliary_head) {
    auxiliary_list_ = p.auxiliary_head->is_list;
    if (auxiliary_list_) {
      auto list = register_module("auxiliary_head", std::make_shared<ListOf<DecodeHead>>());
      for (const auto& spec : p.auxiliary_head->values) {
        auxiliary_.push_back(list->push_back(spec.build(features)));
      }
    } else {
      auxiliary_.push_back(
          register_module("auxiliary_head", p.auxiliary_head->values.at(0).build(features)));
    }
  }
  const TrainCfg train_cfg = p.train_cfg.value_or(TrainCfg{});
  for (const auto& head : heads_) head->configure(train_cfg, test_cfg_);
  for (const auto& head : auxiliary_) head->configure(train_cfg, test_cfg_);
}

void EncoderDecoder::init_weights() {
  Segmentor::init_weights();
  if (pretrained_) pretrained_from(*pretrained_).build()->apply(*backbone_);
}

std::vector<torch::Tensor> EncoderDecoder::extract_feat(const torch::Tensor& images) {
  auto features = backbone_->forward(images);
  return neck_ ? neck_->forward(features) : features;
}

torch::Tensor EncoderDecoder::decode(const std::vector<torch::Tensor>& features, Size2 image) {
  if (heads_.size() == 1) return heads_[0]->predict(features, image);
  auto previous = heads_[0]->forward(features);
  for (size_t i = 1; i + 1 < heads_.size(); ++i) {
    previous = static_cast<CascadeDecodeHead&>(*heads_[i]).forward(features, previous);
  }
  return static_cast<CascadeDecodeHead&>(last_head()).predict(features, previous, image);
}

torch::Tensor EncoderDecoder::encode_decode(const torch::Tensor& images) {
  const Size2 size = map_size(images);
  return resize(decode(extract_feat(images), size), size, last_head().align_corners());
}

LossMap EncoderDecoder::loss(const torch::Tensor& images, const Targets& targets) {
  const auto features = extract_feat(images);
  LossMap out;
  const auto add = [&out](const std::string& prefix, const LossMap& losses) {
    for (const auto& [name, value] : losses) out.emplace_back(prefix + "." + name, value);
  };
  add(cascade_ ? "decode_0" : "decode", heads_[0]->loss(features, targets));
  torch::Tensor previous;
  for (size_t i = 1; i < heads_.size(); ++i) {
    // The output of the head before is computed anew, as in MMSegmentation: in training it may
    // differ by dropout from the one that its own loss saw.
    previous = i == 1 ? heads_[0]->forward(features)
                      : static_cast<CascadeDecodeHead&>(*heads_[i - 1]).forward(features, previous);
    add(text("decode_", i),
        static_cast<CascadeDecodeHead&>(*heads_[i]).loss(features, previous, targets));
  }
  for (size_t i = 0; i < auxiliary_.size(); ++i) {
    add(auxiliary_list_ ? text("aux_", i) : std::string("aux"),
        auxiliary_[i]->loss(features, targets));
  }
  return out;
}

torch::Tensor EncoderDecoder::slide(const torch::Tensor& images) {
  const Size2 size = map_size(images);
  const Size2 crop = *test_cfg_.crop_size;
  const Size2 stride = *test_cfg_.stride;
  const int64_t rows = std::max<int64_t>(size.h - crop.h + stride.h - 1, 0) / stride.h + 1;
  const int64_t columns = std::max<int64_t>(size.w - crop.w + stride.w - 1, 0) / stride.w + 1;
  torch::Tensor sum;
  auto count = torch::zeros({1, 1, size.h, size.w}, images.options());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      // The last window of a row or column is shifted back inside.
      const int64_t bottom = std::min(row * stride.h + crop.h, size.h);
      const int64_t right = std::min(column * stride.w + crop.w, size.w);
      const int64_t top = std::max<int64_t>(bottom - crop.h, 0);
      const int64_t left = std::max<int64_t>(right - crop.w, 0);
      const auto window = [&](const torch::Tensor& x) {
        return x.narrow(2, top, bottom - top).narrow(3, left, right - left);
      };
      const auto logits = encode_decode(window(images));
      if (!sum.defined()) {
        sum = torch::zeros({images.size(0), logits.size(1), size.h, size.w}, logits.options());
        count = count.to(logits.scalar_type());
      }
      window(sum).add_(logits);
      window(count).add_(1);
    }
  }
  return sum.div_(count);
}

torch::Tensor EncoderDecoder::inference(const torch::Tensor& images) {
  return slides() ? slide(images) : encode_decode(images);
}

LogitsGeometry EncoderDecoder::geometry(const ModelInput& input, size_t i) const {
  LogitsGeometry g;
  g.input = {input.images.size(2), input.images.size(3)};
  g.unpadded = g.original = g.input;
  g.align_corners = last_head().align_corners();
  if (i >= input.metas.size()) return g;
  const auto& meta = input.metas[i];
  const auto known = [](const std::array<int64_t, 2>& shape) {
    return shape[0] > 0 && shape[1] > 0;
  };
  if (known(meta.img_shape)) {
    g.unpadded = {std::min(meta.img_shape[0], g.input[0]), std::min(meta.img_shape[1], g.input[1])};
  }
  g.original = known(meta.ori_shape) ? meta.ori_shape : g.unpadded;
  g.flip_horizontal = meta.flip && meta.flip_direction != "vertical";
  g.flip_vertical = meta.flip && meta.flip_direction != "horizontal";
  return g;
}

std::vector<LogitRows> EncoderDecoder::full_size_rows(const ModelInput& input) {
  const Size2 size = map_size(input.images);
  auto logits = slides() ? slide(input.images) : decode(extract_feat(input.images), size);
  // Half precision would lose the order of near classes in the interpolation.
  if (logits.scalar_type() != torch::kDouble) logits = logits.to(torch::kFloat32);
  std::vector<LogitRows> out;
  for (int64_t i = 0; i < logits.size(0); ++i) {
    out.emplace_back(logits[i], geometry(input, static_cast<size_t>(i)));
  }
  return out;
}

std::vector<torch::Tensor> EncoderDecoder::predict(const ModelInput& input) {
  std::vector<torch::Tensor> out;
  for (auto& rows : full_size_rows(input)) {
    out.push_back(resize_argmax(rows, last_head().threshold()));
  }
  return out;
}

std::vector<torch::Tensor> EncoderDecoder::predict_tta(const std::vector<ModelInput>& augmented) {
  std::vector<std::vector<LogitRows>> by_image;
  for (const auto& input : augmented) {
    auto rows = full_size_rows(input);
    by_image.resize(std::max(by_image.size(), rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) by_image[i].push_back(std::move(rows[i]));
  }
  std::vector<torch::Tensor> out;
  for (const auto& sources : by_image) {
    out.push_back(resize_argmax_mean(sources, last_head().threshold()));
  }
  return out;
}

SEG_REGISTER(Segmentor, EncoderDecoder);

/// Heads in a row, each refining the output of the one before (OCRNet, PointRend).
class CascadeEncoderDecoder final : public EncoderDecoder {
 public:
  using Params = CascadeEncoderDecoderParams;
  static Schema<Params> schema() {
    return Schema<Params>("An encoder and decoder with several heads in a row.")
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
  explicit CascadeEncoderDecoder(const Params& p) : EncoderDecoder(p, true) {}
};
SEG_REGISTER(Segmentor, CascadeEncoderDecoder);

}  // namespace seg
