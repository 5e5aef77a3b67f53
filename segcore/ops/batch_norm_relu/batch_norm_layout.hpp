/// The passes of batch norm with ReLU over maps of floats, for each way that they lie in memory.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace seg {

/// Of a channel: y = relu(x * scale + shift + residual).
struct NormScale {
  float scale, shift;
};

/// Of a channel: by_x = (gradient that passes the ReLU) * scale - (x - mean) * slope - offset.
struct NormSlopes {
  float scale, mean, slope, offset;
};

/// What the backward pass reads; the means are those of the forward pass.
struct BatchNormMaps {
  const float *gradient, *x, *y;
  const double* means;
};

/// All maps have the layout of one. Results do not depend on the number of threads; the functions
/// that are passed in are called for each channel once, by several threads.
class BatchNormLayout {
 public:
  using ScaleOf = std::function<NormScale(int64_t channel)>;
  using SlopesOf = std::function<NormSlopes(int64_t channel)>;
  virtual ~BatchNormLayout() = default;

  /// Of each channel the mean and the sum of squared deviations from it.
  virtual void moments(const float* x, double* means, double* squares) const = 0;
  /// \param residual  may be null.
  /// \param squares   null: without `moments`, else these are made first, each before `scale_of`
  ///                  of its channel.
  virtual void normalise(const float* x, const float* residual, float* y, double* means,
                         double* squares, const ScaleOf& scale_of) const = 0;
  /// Of each channel the sum of gradients that pass the ReLU, and of them times x - mean.
  virtual void sums(const BatchNormMaps& maps, double* sums, double* products) const = 0;
  /// \param sum_first    makes `sums`, each before `slopes_of` of its channel.
  /// \param by_residual  may be null.
  virtual void gradients(const BatchNormMaps& maps, double* sums, double* products, bool sum_first,
                         const SlopesOf& slopes_of, float* by_x, float* by_residual) const = 0;
};

/// [N, C, ...], contiguous.
std::unique_ptr<BatchNormLayout> batch_norm_planes(const at::Tensor& x);
/// [N, C, ...] in channels-last format: rows of C values.
std::unique_ptr<BatchNormLayout> batch_norm_rows(const at::Tensor& x);

}  // namespace seg
