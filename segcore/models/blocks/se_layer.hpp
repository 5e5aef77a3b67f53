/// Squeeze and excitation, and the rounding of widths that mobile networks share.
#pragma once
#include <array>

#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// The multiple of `divisor` nearest to `value`, at least `divisor` and 0.9 `value`.
int64_t make_divisible(double value, int64_t divisor);

struct SEOptions {
  int64_t channels = 0;
  int64_t ratio = 16;
  ConvCfg conv_cfg;
  std::array<ActCfg, 2> act_cfg{relu_cfg(),
                                act_cfg_of("{type: HSigmoid, bias: 3.0, divisor: 6.0}")};
};

/// Scales each channel by a factor that two 1x1 convolutions compute from the means of all
/// channels: children `conv1`, `conv2`.
///
/// Hu et al. 2017, arXiv:1709.01507.
class SELayer final : public Layer {
 public:
  explicit SELayer(const SEOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> conv1_, conv2_;
};

}  // namespace seg
