/// The passes of depthwise convolution over maps of floats, for each way that they lie in memory.
#pragma once
#include <algorithm>
#include <cstdint>

namespace seg {

/// Along one axis: the output at o is made of the inputs at (o * stride + k * dilation - padding) /
/// spread for each k of the kernel, where that is a whole number and inside of the map.
struct DepthwiseAxis {
  int64_t in, out, kernel, stride, padding, dilation;
  int64_t spread = 1;

  /// The last position that an output reads, counted from the first of the padding, plus one.
  int64_t extent(int64_t outputs) const {
    return (outputs - 1) * stride + (kernel - 1) * dilation + 1;
  }
  /// How inputs are made of outputs in the backward pass, with the kernel reversed.
  /// \pre spread is 1 and padding at most dilation * (kernel - 1)
  DepthwiseAxis adjoint() const {
    return {out, in, kernel, 1, dilation * (kernel - 1) - padding, dilation, stride};
  }
};

struct DepthwiseShape {
  int64_t images, channels;
  DepthwiseAxis h, w;
  int64_t taps() const { return h.kernel * w.kernel; }
  /// Units, each of so many outputs, that are worth a thread.
  int64_t grain(int64_t outputs) const {
    constexpr int64_t kProducts = 1 << 16;
    return std::max<int64_t>(1, kProducts / (outputs * taps()));
  }
};

/// Maps [N, C, H, W], contiguous. \param weights  [C, taps]. \param bias  [C], or null.
void correlate_planes(const DepthwiseShape& shape, const float* x, const float* weights,
                      const float* bias, float* y);
/// Maps [N, H, W, C]. \param weights  [taps, C]. \param bias  [C], or null.
void correlate_rows(const DepthwiseShape& shape, const float* x, const float* weights,
                    const float* bias, float* y);

/// Gradients by the weights [C, taps] and, unless null, by the bias [C].
/// \pre the spread of both axes is 1
void depthwise_weight_gradient_planes(const DepthwiseShape& shape, const float* x,
                                      const float* gradient, float* by_weight, float* by_bias);
/// As for planes; by_weight is [taps, C].
void depthwise_weight_gradient_rows(const DepthwiseShape& shape, const float* x,
                                    const float* gradient, float* by_weight, float* by_bias);

}  // namespace seg
