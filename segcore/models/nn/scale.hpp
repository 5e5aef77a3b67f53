/// A learned factor.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// mmcv's Scale: one number, the parameter `scale`.
class Scale final : public Layer {
 public:
  explicit Scale(double value) {
    scale_ = register_parameter("scale", at::full({}, value, at::TensorOptions(at::kFloat)));
  }
  torch::Tensor forward(const torch::Tensor& x) override { return x * scale_; }

 private:
  torch::Tensor scale_;
};

}  // namespace seg
