/// Attention to maps that a strided convolution reduces.
#pragma once
#include <string>

#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/nn/conv.hpp"

namespace seg {

struct EfficientAttentionOptions {
  int64_t embed_dims = 0, num_heads = 1;
  int64_t sr_ratio = 1;  ///< kernel and stride of the convolution; 1: none
  double attn_drop = 0, proj_drop = 0, drop_path = 0;
  bool qkv_bias = true;
  NormCfg norm_cfg;  ///< after the convolution
};

/// Queries of a map attend to the map reduced: children `attn`, `sr`, `norm`.
class EfficientMultiheadAttention final : public BaseModule {
 public:
  explicit EfficientMultiheadAttention(const EfficientAttentionOptions& o);
  /// x [N, h * w, C]; the shortcut is left to the caller.
  torch::Tensor forward(const torch::Tensor& x, Size2 size);

 private:
  std::shared_ptr<PackedAttention> attn_;
  std::shared_ptr<Dropout> proj_drop_;
  std::shared_ptr<DropPath> drop_path_;
  std::shared_ptr<Conv2d> sr_;  ///< null for sr_ratio 1
  std::shared_ptr<Norm> norm_;  ///< likewise
};

/// The initial weights of the backbones that have this attention: linear maps by a truncated
/// normal, convolutions by their fan out in a group, norms 1 and 0.
void efficient_transformer_init(torch::nn::Module& root);

/// \throws DataError if the map of a stage is smaller than the kernel that reduces it.
/// \param image  height and width of the images that gave this map.
void check_reducible(const std::string& backbone, Size2 image, size_t stage, Size2 map,
                     int64_t sr_ratio);

}  // namespace seg
