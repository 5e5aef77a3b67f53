/// Competition between the channels of a map, as in ConvNeXt V2.
#pragma once
#include <string>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Scales each channel by its norm over the map relative to the mean of all channels.
///
/// ConvNeXt V2, Woo et al. 2023, arXiv:2301.00808, section 3.2.
class GlobalResponseNorm final : public Layer {
 public:
  /// \param scale, shift  names of the parameters: "gamma" and "beta" in mmpretrain, "weight" and
  ///                      "bias" in timm.
  GlobalResponseNorm(int64_t channels, const std::string& scale, const std::string& shift);
  /// [N, H, W, C]
  torch::Tensor forward(const torch::Tensor& x) override;
  std::vector<std::string> python_names() const override { return {"GRN"}; }

 private:
  torch::Tensor scale_, shift_;
};

}  // namespace seg
