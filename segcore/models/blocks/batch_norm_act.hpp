/// Batch norm with an activation as one layer, as timm, torchvision and ultralytics number them.
#pragma once
#include "segcore/models/nn/batch_norm.hpp"

namespace seg {

/// An activation. May overwrite its input.
using ActivationFn = torch::Tensor (*)(torch::Tensor);

torch::Tensor relu_of(torch::Tensor x);
torch::Tensor relu6_of(torch::Tensor x);
torch::Tensor silu_of(torch::Tensor x);
torch::Tensor hard_swish_of(torch::Tensor x);
torch::Tensor gelu_of(torch::Tensor x);
torch::Tensor sigmoid_of(torch::Tensor x);
torch::Tensor hard_sigmoid_of(torch::Tensor x);

/// Batch norm, then the activation where there is one.
class BatchNormAct final : public BatchNorm {
 public:
  BatchNormAct(const BatchNormParams& p, int64_t channels, ActivationFn act = nullptr)
      : BatchNorm(p, channels), act_(act) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    auto out = BatchNorm::forward(x);
    return act_ ? act_(std::move(out)) : out;
  }

 private:
  ActivationFn act_;
};

}  // namespace seg
