#include "segcore/models/blocks/efficient_attention.hpp"

#include <algorithm>

#include "registry/error.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/torch.hpp"

namespace seg {

EfficientMultiheadAttention::EfficientMultiheadAttention(const EfficientAttentionOptions& o) {
  attn_ = register_module("attn", std::make_shared<PackedAttention>(o.embed_dims, o.num_heads,
                                                                    o.attn_drop, o.qkv_bias));
  proj_drop_ = register_module("proj_drop", std::make_shared<Dropout>(o.proj_drop));
  drop_path_ = register_module("dropout_layer", std::make_shared<DropPath>(o.drop_path));
  if (o.sr_ratio > 1) {
    sr_ = register_module("sr", std::make_shared<Conv2d>(ConvOptions{.in_channels = o.embed_dims,
                                                                     .out_channels = o.embed_dims,
                                                                     .kernel_size = o.sr_ratio,
                                                                     .stride = o.sr_ratio}));
    norm_ = register_module("norm", o.norm_cfg->build(o.embed_dims));
  }
}

torch::Tensor EfficientMultiheadAttention::forward(const torch::Tensor& x, Size2 size) {
  torch::Tensor key = x;
  if (sr_) key = norm_->forward(nchw_to_nlc(sr_->forward(nlc_to_nchw(x, size))));
  return drop_path_->forward(proj_drop_->forward(attn_->forward(x, key, key)));
}

void efficient_transformer_init(torch::nn::Module& root) {
  for_each_module(root, [](torch::nn::Module& m) {
    if (dynamic_cast<Linear*>(&m)) {
      trunc_normal_init(m, 0, 0.02);
    } else if (is_norm(m)) {
      constant_init(m, 1, 0);
    } else if (auto* conv = dynamic_cast<Conv2d*>(&m)) {
      group_fan_out_init(*conv);
    }
  });
}

void check_reducible(const std::string& backbone, Size2 image, size_t stage, Size2 map,
                     int64_t sr_ratio) {
  if (std::min(map.h, map.w) >= sr_ratio) return;
  throw DataError(text("images of ", image.h, "x", image.w, " are too small for this ", backbone,
                       ": the map of stage ", stage, " is ", map.h, "x", map.w,
                       " and must be at least ", sr_ratio, "x", sr_ratio,
                       ". Enlarge them, or pad them by size or test_cfg of the data "
                       "preprocessor"));
}

}  // namespace seg
