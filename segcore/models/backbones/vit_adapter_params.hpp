/// The options of adapters of plain transformers.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// The options that both adapters have.
struct AdapterParams {
  Size2 img_size = 224, pretrain_size = 224;
  int64_t patch_size = 16, in_chans = 3, embed_dim = 768, depth = 12, num_heads = 12;
  double mlp_ratio = 4;
  double drop_rate = 0, attn_drop_rate = 0, drop_path_rate = 0;
  int64_t conv_inplane = 64, n_points = 4, deform_num_heads = 6;
  double init_values = 0;
  std::vector<std::vector<int64_t>> interaction_indexes;
  bool with_cffn = true;
  double cffn_ratio = 0.25, deform_ratio = 1;
  bool add_vit_feature = true, with_cp = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  static Schema<AdapterParams> schema();
  Size2 grid(Size2 image) const { return {image.h / patch_size, image.w / patch_size}; }
};

}  // namespace seg
