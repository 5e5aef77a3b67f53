/// The base of heads whose queries predict a class and a mask each: MaskFormer and Mask2Former.
#pragma once
#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/mask_set_losses.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/nn/uses_communicator.hpp"

namespace seg {

struct MaskQueryHeadParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t feat_channels = 0;
  int64_t out_channels = 0;
  int64_t num_classes = 150;
  int64_t num_queries = 100;
  Spec<MaskPixelDecoder> pixel_decoder;
  bool enforce_decoder_input_project = false;
  DetrDecoderCfg transformer_decoder;
  SinePositionalEncoding positional_encoding{.num_feats = 128, .normalize = true};
  Spec<QueryClassLoss> loss_cls = Spec<QueryClassLoss>::of("{type: CrossEntropyLoss}");
  Spec<MaskLoss> loss_mask = Spec<MaskLoss>::of("{type: FocalLoss, loss_weight: 20}");
  Spec<MaskLoss> loss_dice = Spec<MaskLoss>::of("{type: DiceLoss, naive_dice: true}");
  std::optional<MaskTrainCfg> train_cfg;
  bool align_corners = false;
  std::optional<int64_t> ignore_index = 255;
  static Schema<MaskQueryHeadParams> schema();
};

/// Matches queries with the classes of an image. Logits are sums over queries of class probability
/// times mask probability.
class MaskQueryHead : public DecodeHead, public UsesCommunicator, public DrawsRandomNumbers {
 public:
  static DecodeHeadFacts facts(const MaskQueryHeadParams& p) {
    return {.num_classes = p.num_classes};
  }
  /// \param comparison  where masks are compared in training.
  MaskQueryHead(const MaskQueryHeadParams& p, const std::vector<FeatureInfo>& inputs,
                std::unique_ptr<MaskComparison> comparison);

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;
  torch::Tensor predict(const std::vector<torch::Tensor>& features, Size2 image) override;
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override;

 protected:
  /// Registers the layers behind the decoders, `cls_embed` and `mask_embed`.
  void register_embeds();
  /// What the queries predict after each supervised layer, or only after the last.
  /// \param padding  bool [N, h, w], of the size of the last map, true where it shows padding;
  ///                 undefined: nowhere.
  virtual std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                           const torch::Tensor& padding, bool all) = 0;
  /// The classes and masks of normed queries [N, Q, C] over a map [N, out_channels, h, w].
  QueryOutput predict_queries(const torch::Tensor& queries, const torch::Tensor& mask_feature);

  /// Width of the queries.
  int64_t width() const { return p_.transformer_decoder.layer().self_attn_cfg.embed_dims; }

  MaskQueryHeadParams p_;
  std::shared_ptr<MaskPixelDecoder> pixel_decoder_;
  std::shared_ptr<DetrDecoder> decoder_;

 private:
  std::optional<MaskSetLosses> mask_losses_;  ///< empty without train_cfg
  std::shared_ptr<Linear> cls_embed_;
  std::shared_ptr<Sequential> mask_embed_;
};

}  // namespace seg
