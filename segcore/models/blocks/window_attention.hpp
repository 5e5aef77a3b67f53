/// The attention of Swin Transformers: inside windows, every other time shifted by half of one.
#pragma once
#include <optional>

#include "segcore/models/nn/drop.hpp"

namespace seg {

struct WindowAttentionOptions {
  int64_t dims = 0, heads = 1;
  int64_t side = 7;  ///< of a window
  bool qkv_bias = true;
  std::optional<double> scale;  ///< of the scores; 1 / sqrt(width of a head)
  double attn_drop = 0, proj_drop = 0;
};

/// Attention inside windows with a learned bias for each relative position: parameter
/// `relative_position_bias_table`, buffer `relative_position_index`, children `qkv`, `proj`.
class WindowAttention final : public BaseModule, public DropsValues {
 public:
  explicit WindowAttention(const WindowAttentionOptions& options);
  /// x [N * windows, L, C]; mask [windows, L, L], added to the scores, or undefined.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask = {});
  void set_drop_probability(double p) override { attn_drop_ = p; }
  void init_weights() override;

 private:
  int64_t heads_;
  double scale_, attn_drop_;
  torch::Tensor table_, index_;
  std::shared_ptr<Linear> qkv_, proj_;
  std::shared_ptr<Dropout> proj_drop_;
};

/// Cuts a map, padded to whole windows, and joins it again.
class ShiftedWindows final {
 public:
  ShiftedWindows(int64_t side, bool shift) : side_(side), shift_(shift ? side / 2 : 0) {}
  /// \param tokens  [N, h * w, C] of a map of this size.
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size, WindowAttention& attention);

 private:
  /// Keeps pixels that the shift brought together from attending to each other: -100 between
  /// regions, [windows, side * side, side * side].
  torch::Tensor shift_mask(int64_t h, int64_t w, const torch::TensorOptions& options);

  int64_t side_, shift_;
  torch::Tensor mask_;  ///< of the last size
  Size2 mask_size_ = 0;
};

}  // namespace seg
