/// Atrous spatial pyramid pooling under the names of torchvision and segmentation_models_pytorch,
/// and the layers of their DeepLabs.
#pragma once
#include <memory>
#include <vector>

#include "segcore/models/nn/conv.hpp"

namespace seg {

/// A convolution without bias that keeps the size.
std::shared_ptr<Conv2d> deeplab_conv(int64_t in, int64_t out, int64_t kernel_size,
                                     int64_t dilation = 1, int64_t groups = 1);
/// A 3x3 convolution of each channel alone, then one of 1x1.
std::shared_ptr<Layer> deeplab_separable(int64_t in, int64_t out, int64_t dilation = 1);
/// Convolution, batch norm, ReLU.
std::shared_ptr<Sequential> deeplab_block(std::shared_ptr<Layer> conv, int64_t out);

struct DeepLabAsppOptions {
  int64_t in = 0, out = 256;
  std::vector<int64_t> rates{12, 24, 36};
  bool separable = false;
  double dropout = 0.5;
};

/// A 1x1 convolution, dilated ones and the map's mean side by side: children `convs`, `project`.
///
/// Chen et al. 2017, arXiv:1706.05587.
class DeepLabAspp final : public Layer {
 public:
  explicit DeepLabAspp(const DeepLabAsppOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::vector<std::shared_ptr<Sequential>> branches_;
  std::shared_ptr<Sequential> pooled_, project_;
};

}  // namespace seg
