/// Layer norm over the channels of maps.
#pragma once
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct LayerNorm2dParams {
  double eps = 1e-5;
  bool elementwise_affine = true;
  bool requires_grad = true;
};

/// Normalises the channels of each pixel alone (`LN2d` of mmpretrain).
class LayerNorm2d final : public Norm {
 public:
  using Params = LayerNorm2dParams;
  static Schema<Params> schema();
  LayerNorm2d(const Params& p, int64_t channels);
  std::string abbreviation() const override { return "ln"; }
  std::vector<std::string> python_names() const override { return {"LayerNorm2d", "LayerNorm"}; }
  /// [N, C, H, W]
  torch::Tensor forward(const torch::Tensor& x) override;
  /// [N, H, W, C]
  torch::Tensor forward_channels_last(const torch::Tensor& x) const;

 private:
  double eps_;
  int64_t channels_;
};

}  // namespace seg
