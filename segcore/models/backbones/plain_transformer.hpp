/// What plain vision transformers share, whose blocks all give maps of one size: ViT, BEiT, MAE.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/models/backbones/out_indices.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/weights/init.hpp"

namespace seg {

struct PlainTransformerParams {
  Size2 img_size = 224;  ///< each backbone says what it is for
  int64_t patch_size = 16;
  int64_t in_channels = 3;
  int64_t embed_dims = 768;
  int64_t num_layers = 12;
  int64_t num_heads = 12;
  int64_t mlp_ratio = 4;
  OutIndices out_indices = int64_t{-1};
  double attn_drop_rate = 0;
  double drop_path_rate = 0;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  bool patch_norm = false;
  bool final_norm = false;
  int64_t num_fcs = 2;
  bool norm_eval = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  /// All but `img_size`.
  static Schema<PlainTransformerParams> schema();
  /// Patches of an image of `img_size`.
  Size2 grid() const { return {img_size.h / patch_size, img_size.w / patch_size}; }
  /// The blocks of `out_indices`, from 0.
  std::vector<int64_t> out_blocks() const { return indices_among(out_indices, num_layers); }
};

/// Puts all norms below `root` into evaluation mode (`norm_eval`).
void freeze_norms(torch::nn::Module& root);

}  // namespace seg
