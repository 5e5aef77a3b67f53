#include <torch/nn/modules/embedding.h>

#include "segcore/models/decode_heads/mask_query_head.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct Mask2FormerHeadParams : MaskQueryHeadParams {
  Mask2FormerHeadParams() {
    loss_cls = Spec<QueryClassLoss>::of("{type: CrossEntropyLoss, loss_weight: 2}");
    loss_mask = Spec<MaskLoss>::of("{type: CrossEntropyLoss, use_sigmoid: true, loss_weight: 5}");
    loss_dice = Spec<MaskLoss>::of("{type: DiceLoss, naive_dice: true, eps: 1, loss_weight: 5}");
  }
  int64_t num_transformer_feat_level = 3;
};

/// Queries that attend to one map after another, each time inside the mask they predicted last.
class Mask2FormerHead final : public MaskQueryHead {
 public:
  using Params = Mask2FormerHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Queries with masked attention that predict a class and a mask each.")
        .source("Mask2Former, Cheng et al. 2021, arXiv:2112.01527")
        .include(MaskQueryHeadParams::schema())
        .optional("num_transformer_feat_level", &Params::num_transformer_feat_level,
                  "maps that queries attend to in turn", at_least(1));
  }

  Mask2FormerHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : MaskQueryHead(p, inputs, compare_at_points(p.train_cfg.value_or(MaskTrainCfg{}))),
        levels_(static_cast<size_t>(p.num_transformer_feat_level)) {
    if (width() != p.feat_channels) {
      throw OptionError("transformer_decoder",
                        text("embed_dims is ", width(), ", but feat_channels ", p.feat_channels));
    }
    input_projs_ = register_module("decoder_input_projs", std::make_shared<ListOf<Layer>>());
    for (size_t i = 0; i < levels_; ++i) {
      if (p.enforce_decoder_input_project) {
        input_projs_->push_back(std::make_shared<Conv2d>(
            ConvOptions{.in_channels = p.feat_channels, .out_channels = width()}));
      } else {
        input_projs_->push_back(std::make_shared<Identity>());
      }
    }
    const auto embedding = [&](const char* name, int64_t count) {
      return register_module(name,
                             std::make_shared<torch::nn::EmbeddingImpl>(count, p.feat_channels));
    };
    query_embed_ = embedding("query_embed", p.num_queries);
    query_feat_ = embedding("query_feat", p.num_queries);
    level_embed_ = embedding("level_embed", p.num_transformer_feat_level);
    register_embeds();
  }

  void init_weights() override {
    pixel_decoder_->init_weights();
    for (const auto& layer : *input_projs_) {
      if (auto* conv = dynamic_cast<Conv2d*>(layer.get())) caffe2_xavier_init(*conv);
    }
    xavier_matrices_init(*decoder_, /*uniform=*/false);
  }

 private:
  std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                   const torch::Tensor& padding, bool all) override {
    const auto pixels = pixel_decoder_->forward(features, padding);
    SEG_CHECK(pixels.memories.size() >= levels_, "the pixel decoder gives ", pixels.memories.size(),
              " maps, but queries attend to ", levels_);
    std::vector<torch::Tensor> memories, positions;
    for (size_t i = 0; i < levels_; ++i) {
      const auto& map = pixels.memories[i];
      memories.push_back((*input_projs_)[i].forward(map).flatten(2).transpose(1, 2) +
                         level_embed_->weight[static_cast<int64_t>(i)]);  // [N, h*w, C]
      positions.push_back(p_.positional_encoding(map));
    }
    const int64_t images = pixels.mask_feature.size(0);
    const auto query_pos = query_embed_->weight.unsqueeze(0).expand({images, -1, -1});
    auto query = query_feat_->weight.unsqueeze(0).expand({images, -1, -1});
    auto& layers = decoder_->layers();
    std::vector<QueryOutput> out;
    for (size_t i = 0;; ++i) {
      auto output = predict_queries(decoder_->post_norm().forward(query), pixels.mask_feature);
      const bool last = i == layers.size();
      const size_t level = i % levels_;
      const auto allowed =
          last ? torch::Tensor() : inside_masks(output.masks, map_size(pixels.memories[level]));
      if (last || all) out.push_back(std::move(output));
      if (last) return out;
      query = layers[i].forward({.query = query,
                                 .query_pos = query_pos,
                                 .memory = memories[level],
                                 .memory_pos = positions[level],
                                 .allowed = allowed,
                                 .memory_first = true});
    }
  }

  /// The positions of a map that each query may attend to: those in its mask, or all if it is
  /// empty. \return bool [N, 1, Q, h*w]
  static torch::Tensor inside_masks(const torch::Tensor& masks, Size2 size) {
    const torch::NoGradGuard no_grad;
    const auto inside = resize(full_precision(masks), size).flatten(2) >= 0;
    return (inside | ~inside.any(-1, true)).unsqueeze(1);
  }

  size_t levels_;
  std::shared_ptr<ListOf<Layer>> input_projs_;
  std::shared_ptr<torch::nn::EmbeddingImpl> query_embed_, query_feat_, level_embed_;
};

SEG_REGISTER(DecodeHead, Mask2FormerHead);

}  // namespace seg
