#include "registry/changed_spec.hpp"
#include "segcore/models/decode_heads/mask_set_losses.hpp"
#include "segcore/models/segmentors/encoder_decoder.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct EncoderDecoderMask2FormerParams : EncoderDecoderParams {
  std::optional<MaskTrainCfg> head_train_cfg;
};

/// EncoderDecoder whose `train_cfg` is that of the decode head, as in ViT-Adapter's repository.
/// Scores are made at the size of the masks and then resized; MMSegmentation resizes the masks.
class EncoderDecoderMask2Former final : public EncoderDecoder {
 public:
  using Params = EncoderDecoderMask2FormerParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("EncoderDecoder whose train_cfg is that of the decode head.")
        .source("ViT-Adapter, Chen et al. 2022, arXiv:2205.08534")
        .required("backbone", &P::backbone, "makes feature maps of the image")
        .optional("neck", &P::neck, "between backbone and heads; null: none")
        .required("decode_head", &P::decode_head, "makes the scores of each pixel")
        .optional("auxiliary_head", &P::auxiliary_head,
                  "further heads, only in training; null: none")
        .optional("train_cfg", &P::head_train_cfg, "how the head's queries are matched")
        .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
        .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
        .optional("pretrained", &P::pretrained, "checkpoint of the backbone")
        .optional("init_cfg", &P::init_cfg, "initialisation");
  }
  static SegmentorFacts facts(const Params& p) { return EncoderDecoder::facts(p); }
  explicit EncoderDecoderMask2Former(const Params& p) : EncoderDecoder(with_head_cfg(p)) {}

 protected:
  torch::Tensor logits(const torch::Tensor& images, const std::vector<int64_t>&) override {
    return last_head().forward(extract_feat(images));
  }

 private:
  static EncoderDecoderParams with_head_cfg(const Params& p) {
    EncoderDecoderParams out = p;
    if (!p.head_train_cfg || out.decode_head.values.empty()) return out;
    auto& head = out.decode_head.values.front();
    Config config = head.config();
    Config cfg = config_of(*p.head_train_cfg);
    cfg.origin = config.origin;
    config.set("train_cfg", std::move(cfg));
    head = changed_spec(head, config);
    return out;
  }
  static Config config_of(const MaskTrainCfg& cfg) {
    Config out = detail::parse_default(
        text("{num_points: ", cfg.num_points, ", oversample_ratio: ", cfg.oversample_ratio,
             ", importance_sample_ratio: ", cfg.importance_sample_ratio, "}"));
    out.set("assigner", cfg.assigner.config());
    return out;
  }
};

SEG_REGISTER(Segmentor, EncoderDecoderMask2Former);

}  // namespace seg
