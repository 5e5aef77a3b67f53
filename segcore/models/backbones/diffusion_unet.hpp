/// The U-Net that removes noise from the latents of a diffusion model.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// The options of `unet_config.params`; those of Stable Diffusion v1 by default.
struct UNetModelParams {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t model_channels = 320;
  std::vector<int64_t> attention_resolutions{4, 2, 1};
  int64_t num_res_blocks = 2;
  std::vector<int64_t> channel_mult{1, 2, 4, 4};
  double dropout = 0;
  bool conv_resample = true;
  int64_t num_heads = 8;
  int64_t num_head_channels = -1;
  bool use_spatial_transformer = true;
  int64_t transformer_depth = 1;
  int64_t context_dim = 768;
  bool use_checkpoint = true;
  static Schema<UNetModelParams> schema();
  /// Attention heads of a layer of this width.
  int64_t heads(int64_t channels) const;
};

/// Normalises groups of 32 channels, as all of a latent diffusion model does.
std::shared_ptr<Layer> diffusion_norm(int64_t channels, double eps);
/// A 3x3 convolution that keeps the size at stride 1.
std::shared_ptr<Layer> diffusion_conv(int64_t in, int64_t out, int64_t stride = 1);

/// Layers of one level of the U-Net in a row, each called with what it takes: children "0", "1",
/// ...
class DiffusionBlock final : public BaseModule {
 public:
  /// What passes through it: the map [N, C, H, W], the embedding of the time step [N, 4 * width]
  /// and the context [N, tokens, context_dim].
  struct State {
    torch::Tensor x, step, context;
  };
  template <class Child>
  void push_back(const std::shared_ptr<Child>& child) {
    register_module(std::to_string(children_.size()), child);
    children_.push_back([child](const State& s) {
      if constexpr (std::is_base_of_v<Layer, Child>) {
        return child->forward(s.x);
      } else {
        return child->forward(s);
      }
    });
  }
  torch::Tensor forward(State state);

 private:
  std::vector<std::function<torch::Tensor(const State&)>> children_;
};

/// UNetModel of CompVis' latent diffusion, with spatial transformers.
///
/// Rombach et al. 2021, arXiv:2112.10752, and the code of Stable Diffusion v1.
class UNetModel final : public BaseModule {
 public:
  explicit UNetModel(const UNetModelParams& p);
  /// The maps that VPD takes: of the second block of each level on the way up and the last block of
  /// all, finest first. The convolution to the noise is not computed.
  /// \param latents  [N, in_channels, H, W], sides that are multiples of size_divisor().
  /// \param step  of the diffusion, the same for all images.
  /// \param context  [N, tokens, context_dim]
  std::vector<torch::Tensor> forward(const torch::Tensor& latents, double step,
                                     const torch::Tensor& context);
  /// Widths of these maps. Each is half as large as the one before.
  std::vector<int64_t> channels() const;
  /// The coarsest map is smaller than the latents by this factor.
  int64_t size_divisor() const;

 private:
  using Blocks = ListOf<DiffusionBlock>;
  void add_input_blocks();
  void add_middle_block();
  void add_output_blocks();
  std::shared_ptr<DiffusionBlock> level_block(int64_t in, int64_t out) const;

  UNetModelParams p_;
  std::vector<int64_t> skipped_;  ///< widths of the maps that the way up joins, while it is built
  int64_t width_ = 0, reduction_ = 1;  ///< of the map at this point, while it is built
  std::shared_ptr<Sequential> time_embed_;
  std::shared_ptr<Blocks> input_blocks_, output_blocks_;
  std::shared_ptr<DiffusionBlock> middle_block_;
};

}  // namespace seg
