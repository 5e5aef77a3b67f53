/// The autoencoder whose latents a diffusion model works on.
#pragma once
#include <memory>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// The options `ddconfig` of an autoencoder; those of Stable Diffusion v1 by default.
struct AutoencoderSizes {
  bool double_z = true;
  int64_t z_channels = 4;
  int64_t resolution = 256;
  int64_t in_channels = 3;
  int64_t out_ch = 3;
  int64_t ch = 128;
  std::vector<int64_t> ch_mult{1, 2, 4, 4};
  int64_t num_res_blocks = 2;
  std::vector<int64_t> attn_resolutions;
  double dropout = 0;
  bool resamp_with_conv = true;
  static Schema<AutoencoderSizes> schema();
};

/// The options of `first_stage_config.params`.
struct AutoencoderKLParams {
  int64_t embed_dim = 4;
  AutoencoderSizes ddconfig;
  static Schema<AutoencoderKLParams> schema();
};

/// AutoencoderKL of CompVis' latent diffusion, of which only the encoder computes: children
/// `encoder`, `decoder`, `quant_conv`, `post_quant_conv`. It is not trained and always in
/// evaluation mode.
///
/// Rombach et al. 2021, arXiv:2112.10752, and the code of Stable Diffusion v1.
class AutoencoderKL final : public BaseModule {
 public:
  AutoencoderKL(const AutoencoderKLParams& p, InitCfg init_cfg);
  /// The mode of the latents' distribution, [N, embed_dim, H / stride(), W / stride()].
  torch::Tensor encode(const torch::Tensor& images);
  int64_t stride() const { return stride_; }
  void train(bool on = true) override;

 private:
  class Encoder;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Layer> quant_conv_;
  int64_t stride_;
};

}  // namespace seg
