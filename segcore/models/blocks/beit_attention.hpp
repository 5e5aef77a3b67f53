/// Attention of plain transformers with a learned bias for each relative position.
#pragma once
#include "segcore/models/nn/drop.hpp"

namespace seg {

struct BEiTAttentionOptions;

/// Parameters `q_bias`, `v_bias`, `relative_position_bias_table`, buffer
/// `relative_position_index`, children `qkv`, `proj`.
///
/// BEiT, Bao et al. 2021, arXiv:2106.08254.
class BEiTAttention final : public BaseModule, public DropsValues {
 public:
  enum class Bias { kNone, kQueryValue, kAll };
  explicit BEiTAttention(const BEiTAttentionOptions& options);
  /// x [N, 1 + h * w, C]
  torch::Tensor forward(const torch::Tensor& x);
  void set_drop_probability(double p) override { attn_drop_ = p; }
  void init_weights() override;

 private:
  int64_t heads_;
  double attn_drop_;
  bool table_from_zero_;
  torch::Tensor q_bias_, v_bias_;  ///< undefined for other biases
  torch::Tensor table_, index_;
  std::shared_ptr<Linear> qkv_, proj_;
};

struct BEiTAttentionOptions {
  int64_t dims = 0, heads = 1;
  Size2 grid = 14;  ///< patches of the images, which have one size
  BEiTAttention::Bias bias = BEiTAttention::Bias::kNone;
  double attn_drop = 0;
  bool table_from_zero = false;
};

/// A table of biases, [(2 * side - 1)^2 + 3, heads], for another grid; undefined where it fits or
/// is not that of a square. Relative positions near zero keep their distances, those far from it
/// are spread by a geometric sequence, as in BEiT's repository.
torch::Tensor beit_resized_table(const torch::Tensor& theirs, const torch::Tensor& mine,
                                 Size2 grid);

}  // namespace seg
