/// The base of heads whose queries predict a class and a mask each: MaskFormer and Mask2Former.
#pragma once
#include <array>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/losses/query_loss.hpp"
#include "segcore/models/nn/uses_communicator.hpp"

namespace seg {

/// The head's own `train_cfg`.
struct MaskTrainCfg {
  Spec<Assigner> assigner;
  int64_t num_points = 12544;
  double oversample_ratio = 3;
  double importance_sample_ratio = 0.75;
  static Schema<MaskTrainCfg> schema();
};

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

/// What queries predict after one layer.
struct QueryOutput {
  torch::Tensor classes;  ///< [N, Q, classes + 1], before softmax
  torch::Tensor masks;    ///< [N, Q, h, w], before sigmoid
};

/// The classes of one image, a mask each.
struct ImageMasks {
  torch::Tensor labels;  ///< int64 [G]
  torch::Tensor masks;   ///< floating [G, H, W]
};

/// Matched masks and those of their classes, at the same pixels or points.
struct MaskPairs {
  torch::Tensor logits;  ///< [M, P]
  torch::Tensor truth;   ///< [M, P]
};

/// Matches queries with the classes of an image. Logits are sums over queries of class probability
/// times mask probability.
class MaskQueryHead : public DecodeHead, public UsesCommunicator {
 public:
  static DecodeHeadFacts facts(const MaskQueryHeadParams& p) {
    return {.num_classes = p.num_classes};
  }
  MaskQueryHead(const MaskQueryHeadParams& p, const std::vector<FeatureInfo>& inputs);

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
  /// The class of an image that each query stands for, or -1; int64 [Q] on the CPU.
  /// \param classes  [Q, classes + 1]
  /// \param masks  [Q, h, w]
  virtual torch::Tensor match(const torch::Tensor& classes, const torch::Tensor& masks,
                              const ImageMasks& truth) const = 0;
  /// The pixels or points at which matched masks are compared.
  /// \param masks  logits [M, h, w]
  /// \param truth  [M, H, W]
  virtual MaskPairs pairs_of(const torch::Tensor& masks, const torch::Tensor& truth) const = 0;
  /// The classes and masks of normed queries [N, Q, C] over a map [N, out_channels, h, w].
  QueryOutput predict_queries(const torch::Tensor& queries, const torch::Tensor& mask_feature);

  /// Width of the queries.
  int64_t width() const { return p_.transformer_decoder.layer_cfg.self_attn_cfg.embed_dims; }

  MaskQueryHeadParams p_;
  std::unique_ptr<Assigner> assigner_;  ///< null without train_cfg
  std::shared_ptr<MaskPixelDecoder> pixel_decoder_;
  std::shared_ptr<DetrDecoder> decoder_;

 private:
  std::vector<ImageMasks> masks_of(const torch::Tensor& labels, at::ScalarType type) const;
  std::vector<torch::Tensor> match_images(const QueryOutput& output,
                                          const std::vector<ImageMasks>& truths) const;
  std::array<torch::Tensor, 3> layer_losses(const QueryOutput& output,
                                            const std::vector<ImageMasks>& truths,
                                            const std::vector<torch::Tensor>& matched,
                                            double count) const;

  std::unique_ptr<QueryClassLoss> loss_cls_;
  std::unique_ptr<MaskLoss> loss_mask_, loss_dice_;
  std::shared_ptr<Linear> cls_embed_;
  std::shared_ptr<Sequential> mask_embed_;
};

}  // namespace seg
