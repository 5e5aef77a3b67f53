/// The network beside CLIP's image encoder that proposes masks.
#pragma once
#include <vector>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/vit_block.hpp"

namespace seg {

/// `san_cfg.cfg_encoder`
struct SideEncoderCfg {
  int64_t num_encode_layer = 0, num_heads = 0, mlp_ratio = 4;
  static Schema<SideEncoderCfg> schema();
};

/// `san_cfg.cfg_decoder`
struct SideDecoderCfg {
  int64_t num_heads = 1, num_layers = 1, embed_channels = 256, mlp_channels = 256, num_mlp = 3;
  bool rescale = false;
  static Schema<SideDecoderCfg> schema();
};

/// `san_cfg`
struct SideAdapterCfg {
  int64_t in_channels = 3;
  int64_t clip_channels = 768;
  int64_t embed_dims = 240;
  int64_t patch_size = 16;
  bool patch_bias = true;
  int64_t num_queries = 100;
  std::vector<int64_t> fusion_index{0, 1, 2, 3};
  SideEncoderCfg cfg_encoder;
  SideDecoderCfg cfg_decoder;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  static Schema<SideAdapterCfg> schema();
};

/// What the queries propose after one layer.
struct MaskProposals {
  torch::Tensor masks;                ///< [N, Q, h, w], before sigmoid
  std::vector<torch::Tensor> biases;  ///< of attention in CLIP's layers, [N, heads, Q, h, w] each
};

class SideMaskDecoder;

/// Queries and patches in a small transformer, to which maps of CLIP's image encoder are added.
///
/// SAN, Xu et al. 2023, arXiv:2302.12242, section 3.2. Children: `patch_embed`, `encode_layers`,
/// `conv_clips`, `mask_decoder`; parameters `pos_embed`, `query_pos_embed`, `query_embed`.
class SideAdapterNetwork final : public BaseModule {
 public:
  explicit SideAdapterNetwork(const SideAdapterCfg& cfg);
  /// \param clip_maps  one for each of `fusion_index`, [N, clip_channels, ., .].
  /// \param supervised  layers, from 1, whose proposals are returned besides the last's.
  std::vector<MaskProposals> forward(const torch::Tensor& images,
                                     const std::vector<torch::Tensor>& clip_maps,
                                     const std::vector<int64_t>& supervised);
  void init_weights() override;

 private:
  /// The tokens with a map of CLIP added to those of patches, which come last.
  torch::Tensor fuse(size_t index, const torch::Tensor& tokens, const torch::Tensor& clip_map,
                     Size2 size);
  SideAdapterCfg cfg_;
  Size2 grid_;  ///< of `pos_embed`
  torch::Tensor pos_embed_, query_pos_embed_, query_embed_;
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::shared_ptr<ListOf<ViTBlock>> encode_layers_;
  std::shared_ptr<ListOf<Sequential>> conv_clips_;
  std::shared_ptr<SideMaskDecoder> mask_decoder_;
};

}  // namespace seg
