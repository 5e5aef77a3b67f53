/// The parts of EoMT, with the names of transformers.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/rotary_embedding.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct EomtSizes {
  bool dinov3 = false;  ///< else DINOv2
  int64_t dims = 1024, heads = 16, registers = 4, patch = 16, bands = 3;
  int64_t hidden = 4096;  ///< of the feed-forward layers
  MlpOptions::Kind mlp = MlpOptions::Kind::kPlain;
  bool silu = false;  ///< the activation: SiLU or GELU
  double scale = 1;   ///< first value of the scales of blocks
  double eps = 1e-6;
  double attention_dropout = 0, drop_path_rate = 0;
  Size2 grid = 40;  ///< patches of the images of the position embeddings

  int64_t front() const { return 1 + registers; }
  std::shared_ptr<Norm> norm() const;
};

/// Patches of the image behind a class token and registers: parameters `cls_token`,
/// `register_tokens`, children `patch_embeddings`, with learned positions `position_embeddings`.
class EomtEmbeddings final : public BaseModule {
 public:
  explicit EomtEmbeddings(const EomtSizes& sizes);
  /// \param grid  patches of the images.
  /// \return tokens [N, front + h * w, C].
  torch::Tensor forward(const torch::Tensor& images, Size2 grid);
  void init_weights() override;
  Conv2d& patches() { return *patches_; }

 private:
  Size2 grid_;
  torch::Tensor cls_token_, register_tokens_;
  torch::Tensor positions_;  ///< [h * w, C]; undefined in DINOv3
  std::shared_ptr<Conv2d> patches_;
};

/// Attention and a feed-forward layer, each after a norm and scaled by channel: children `norm1`,
/// `attention`, `layer_scale1`, `norm2`, `mlp`, `layer_scale2`.
class EomtBlock final : public BaseModule {
 public:
  explicit EomtBlock(const EomtSizes& sizes);
  /// \param x       [N, L, C], patches last.
  /// \param mask    bool [N, 1, L, L], true where attention is allowed; undefined: everywhere.
  /// \param rotary  null: no rotation.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask,
                        const RotaryEmbedding* rotary);

 private:
  class Attention;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Layer> scale1_, scale2_;
  std::shared_ptr<Mlp> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Doubles the sides of a map `count` times: children `block.0`, `block.1`, ...
std::shared_ptr<Layer> eomt_upscaling(const EomtSizes& sizes, int64_t count);
/// Three layers over channels: children `fc1`, `fc2`, `fc3`.
std::shared_ptr<Layer> eomt_mask_head(const EomtSizes& sizes);

}  // namespace seg
