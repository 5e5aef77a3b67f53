#include <torch/nn/modules/embedding.h>

#include "segcore/models/decode_heads/mask_query_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// Queries that attend to one map and predict masks over another.
class MaskFormerHead final : public MaskQueryHead {
 public:
  using Params = MaskQueryHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Queries that predict a class and a mask each.")
        .source("MaskFormer, Cheng et al. 2021, arXiv:2107.06278")
        .include(MaskQueryHeadParams::schema());
  }

  MaskFormerHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : MaskQueryHead(p, inputs, compare_all_pixels()) {
    if (width() != p.out_channels || width() != p.feat_channels) {
      throw OptionError("transformer_decoder",
                        text("embed_dims is ", width(), "; feat_channels (", p.feat_channels,
                             ") and out_channels (", p.out_channels, ") must be the same"));
    }
    const int64_t last = inputs.back().channels;
    if (pixel_decoder_->passes_backbone_memory() &&
        (width() != last || p.enforce_decoder_input_project)) {
      input_proj_ = register_module(
          "decoder_input_proj",
          std::make_shared<Conv2d>(ConvOptions{.in_channels = last, .out_channels = width()}));
    }
    query_embed_ = register_module(
        "query_embed", std::make_shared<torch::nn::EmbeddingImpl>(p.num_queries, p.out_channels));
    register_embeds();
  }

  void init_weights() override {
    pixel_decoder_->init_weights();
    if (input_proj_) caffe2_xavier_init(*input_proj_);
    xavier_matrices_init(*decoder_, /*uniform=*/true);
  }

 private:
  std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                   const torch::Tensor& padding, bool all) override {
    const auto pixels = pixel_decoder_->forward(features, padding);
    const auto map = input_proj_ ? input_proj_->forward(pixels.memories[0]) : pixels.memories[0];
    const auto memory = map.flatten(2).transpose(1, 2);           // [N, h*w, C]
    const auto positions = p_.positional_encoding(map, padding);  // [N or 1, h*w, C]
    const auto allowed = allowed_keys(padding);
    const auto query_pos = query_embed_->weight.unsqueeze(0).expand({memory.size(0), -1, -1});
    auto query = at::zeros_like(query_pos);
    std::vector<QueryOutput> out;
    auto& layers = decoder_->layers();
    for (size_t i = 0; i < layers.size(); ++i) {
      query = layers[i].forward({.query = query,
                                 .query_pos = query_pos,
                                 .memory = memory,
                                 .memory_pos = positions,
                                 .allowed = allowed});
      const bool last = i + 1 == layers.size();
      if (last || (all && p_.transformer_decoder.return_intermediate)) {
        out.push_back(predict_queries(decoder_->post_norm().forward(query), pixels.mask_feature));
      }
    }
    return out;
  }

  std::shared_ptr<Conv2d> input_proj_;  ///< null where the memory has the width of the queries
  std::shared_ptr<torch::nn::EmbeddingImpl> query_embed_;
};

SEG_REGISTER(DecodeHead, MaskFormerHead);

}  // namespace seg
