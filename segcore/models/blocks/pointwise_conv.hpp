/// 1x1 convolutions of maps whose channels come last.
#pragma once
#include <string>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// A child of another module, with the weight of a linear layer or of a convolution.
class PointwiseConv final {
 public:
  PointwiseConv(torch::nn::Module& parent, const std::string& name, bool linear, int64_t in,
                int64_t out);
  /// [N, H, W, in] -> [N, H, W, out]
  torch::Tensor operator()(const torch::Tensor& x) const;

 private:
  torch::Tensor weight_, bias_;  ///< of the parent's child
};

}  // namespace seg
