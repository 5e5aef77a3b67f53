/// Heads of queries as configs name them, small enough for tests.
#pragma once
#include <string>

#include "registry/text.hpp"

namespace seg::test {

/// A head of queries of two decoder layers, over maps of 8 to 32 channels.
inline std::string tiny_query_head(const std::string& type, const std::string& pixel_decoder,
                                   const std::string& more) {
  const std::string attention = "{embed_dims: 32, num_heads: 4}";
  return text("{type: ", type, ", feat_channels: 32, out_channels: 32, num_classes: 5, ",
              "num_queries: 7, pixel_decoder: ", pixel_decoder,
              ", positional_encoding: {num_feats: 16, normalize: true}, transformer_decoder: ",
              "{num_layers: 2, layer_cfg: {self_attn_cfg: ", attention,
              ", cross_attn_cfg: ", attention,
              ", ffn_cfg: {embed_dims: 32, feedforward_channels: 64}}}, train_cfg: ",
              "{num_points: 40, assigner: {type: HungarianAssigner, match_costs: [",
              "{type: ClassificationCost}, {type: DiceCost, pred_act: true, eps: 1}]}}", more, "}");
}

inline std::string tiny_maskformer_head() {
  return tiny_query_head("MaskFormerHead", "{type: PixelDecoder}", "");
}

inline std::string tiny_mask2former_head() {
  return tiny_query_head(
      "Mask2FormerHead",
      "{type: MSDeformAttnPixelDecoder, num_outs: 2, strides: [4, 8, 16], "
      "positional_encoding: {num_feats: 16, normalize: true}, encoder: {num_layers: 1, layer_cfg: "
      "{self_attn_cfg: {embed_dims: 32, num_levels: 2, dropout: 0}, "
      "ffn_cfg: {embed_dims: 32, feedforward_channels: 64}}}}",
      ", num_transformer_feat_level: 2");
}

}  // namespace seg::test
