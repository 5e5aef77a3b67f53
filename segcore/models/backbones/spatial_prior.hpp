/// Convolutions beside a plain transformer (ViT-Adapter, Chen et al. 2022, arXiv:2205.08534, 3.2).
#pragma once
#include <memory>
#include <vector>

#include "segcore/models/backbones/vit_adapter_params.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/conv.hpp"

namespace seg {

/// Convolutions of the image, maps of the strides 4 to 32: children `stem`, `conv2` to `conv4`,
/// `fc1` to `fc4`.
class SpatialPrior final : public BaseModule {
 public:
  explicit SpatialPrior(const AdapterParams& p);
  /// \return four maps of `embed_dim` channels, the finest first.
  std::vector<torch::Tensor> forward(const torch::Tensor& images);

 private:
  std::vector<std::shared_ptr<Sequential>> convs_;
  std::vector<std::shared_ptr<Conv2d>> layers_;
};

}  // namespace seg
