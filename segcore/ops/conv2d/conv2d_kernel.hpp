/// What convolves maps of floats on a CPU.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

namespace seg {

struct ConvGeometry {
  std::array<int64_t, 2> stride, padding, dilation;  ///< of height and width
  int64_t groups = 1;
};

/// By x, weight and bias: which are wanted, and what they are; undefined if not.
using WantedGradients = std::array<bool, 3>;
using ConvGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

/// For some convolutions. x is float [N, C, H, W] and not empty, weight and bias are float.
class Conv2dKernel {
 public:
  virtual ~Conv2dKernel() = default;
  /// Whether it can make this convolution, and faster than LibTorch.
  virtual bool fits(const at::Tensor& x, const at::Tensor& weight, const ConvGeometry& g) const = 0;
  /// \param bias  may be undefined.
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const ConvGeometry& g) const = 0;
  virtual ConvGradients backward(const at::Tensor& gradient, const at::Tensor& x,
                                 const at::Tensor& weight, const ConvGeometry& g,
                                 WantedGradients wanted) const = 0;
};

/// How a map lies in memory, if it does so without gaps.
inline at::MemoryFormat format_of(const at::Tensor& x) {
  return x.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
}

/// Kernels of 1 over contiguous maps, as products of matrices.
const Conv2dKernel& pointwise_kernel();
/// One kernel a channel, over contiguous and channels-last maps.
const Conv2dKernel& depthwise_kernel();
/// Kernels of 3 over maps that keep their size (channels-last ones are copied, there and back), by
/// Winograd's products: a quarter of the multiplications, results that differ from exact ones by
/// about 3e-6 of the largest (a sum of as many products by 3e-7).
const Conv2dKernel& winograd_kernel();

/// By LibTorch's operator, for what a kernel leaves to it.
ConvGradients composed_conv2d_backward(const at::Tensor& gradient, const at::Tensor& x,
                                       const at::Tensor& weight, const ConvGeometry& g,
                                       WantedGradients wanted);

}  // namespace seg
