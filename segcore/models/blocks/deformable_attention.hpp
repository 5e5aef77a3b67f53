/// Attention to a few points of several maps.
#pragma once
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/drop.hpp"

namespace seg {

struct DeformableAttentionOptions {
  int64_t embed_dims = 256, num_heads = 8, num_levels = 4, num_points = 4;
  double dropout = 0.1;
  double value_proj_ratio = 1;
};

/// mmcv's MultiScaleDeformableAttention add a shortcut: children `sampling_offsets`,
/// `attention_weights`, `value_proj`, `output_proj`. Batch first.
///
/// Deformable DETR, Zhu et al. 2020, arXiv:2010.04159.
class MultiScaleDeformableAttention final : public BaseModule {
 public:
  explicit MultiScaleDeformableAttention(const DeformableAttentionOptions& options);
  /// \param query  [N, Q, C], of all levels one after another.
  /// \param query_pos  added to the query, but not to the values.
  /// \param reference  [Q, 2], x and y in [0, 1].
  /// \param sizes  height and width of each level.
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& query_pos,
                        const torch::Tensor& reference, const std::vector<Size2>& sizes);
  /// The same without dropout and shortcut, to other maps than the queries'.
  /// \param values  [N, sum of h*w, C]
  torch::Tensor attend(const torch::Tensor& query, const torch::Tensor& values,
                       const torch::Tensor& reference, const std::vector<Size2>& sizes);
  void init_weights() override;

 private:
  DeformableAttentionOptions o_;
  std::shared_ptr<Linear> sampling_offsets_, attention_weights_, value_proj_, output_proj_;
  std::shared_ptr<Dropout> dropout_;
};

}  // namespace seg
