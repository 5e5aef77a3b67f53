/// The last layers of CLIP's image encoder, by which proposed masks are recognised.
#pragma once
#include <string>
#include <vector>

#include "segcore/models/blocks/pre_norm_layer.hpp"

namespace seg {

/// `maskgen_cfg`
struct MaskRecognitionCfg {
  std::string sos_token_format = "cls_token";
  int64_t sos_token_num = 100;
  int64_t num_layers = 3;
  bool cross_attn = false;
  int64_t embed_dims = 768;
  int64_t num_heads = 12;
  int64_t mlp_ratio = 4;
  bool qkv_bias = true;
  int64_t out_dims = 512;
  bool final_norm = true;
  ActCfg act_cfg = act_cfg_of("{type: GELU}");
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  std::vector<std::string> frozen_exclude;
  static Schema<MaskRecognitionCfg> schema();
};

/// Copies of the class token, one a mask, that attend to what the biases let them see.
///
/// SAN, Xu et al. 2023, arXiv:2302.12242, section 3.2. Children: `layers`, `ln_post`, `proj`.
class MaskRecognition final : public BaseModule {
 public:
  MaskRecognition(const MaskRecognitionCfg& cfg, const InitCfg& init_cfg);
  /// \param biases  of each layer, or one for all, [N, heads or 1, Q, ., .].
  /// \param map  the last of the image encoder, [N, embed_dims, h, w]
  /// \param class_token  [N, embed_dims]
  /// \return [N, Q, out_dims]
  torch::Tensor forward(const std::vector<torch::Tensor>& biases, const torch::Tensor& map,
                        const torch::Tensor& class_token);

 private:
  /// What is added to the scores of the patches, [N, heads, Q, h * w].
  torch::Tensor fitted_bias(const torch::Tensor& bias, const torch::Tensor& map) const;
  torch::Tensor attention_mask(const torch::Tensor& bias) const;

  MaskRecognitionCfg cfg_;
  std::shared_ptr<ListOf<PreNormLayer>> layers_;
  std::shared_ptr<Norm> ln_post_;
  std::shared_ptr<Linear> proj_;
};

}  // namespace seg
