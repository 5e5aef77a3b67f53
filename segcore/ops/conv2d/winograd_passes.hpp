/// The passes of a 3x3 convolution by Winograd's products, over contiguous maps of floats.
#pragma once
#include "segcore/ops/conv2d/winograd_tiles.hpp"

namespace seg {

/// Kernels [out, in, 3, 3] of a convolution, or of the one that makes its backward pass: reversed,
/// with in and out changed.
struct WinogradKernels {
  const float* weight;
  int64_t out, in;
  bool adjoint = false;

  int64_t rows() const { return adjoint ? in : out; }   ///< channels of the result
  int64_t depth() const { return adjoint ? out : in; }  ///< channels of the map
};

/// Whether these passes are expected to take less time than a direct convolution.
/// \param copied  the maps are channels-last: they are copied before and after.
bool winograd_is_faster(const TileGrid& grid, int64_t in, int64_t out, bool copied = false);

/// \param x     [N, depth, H, W]. \param bias  [rows], or null. \param y  [N, rows, H, W]
void winograd_convolve(const TileGrid& grid, const WinogradKernels& kernels, const float* x,
                       const float* bias, float* y);

/// The gradient by the kernels, [out, in, 3, 3].
/// \param x  [N, in, H, W]. \param gradient  [N, out, H, W]
void winograd_kernel_gradient(const TileGrid& grid, int64_t in, int64_t out, const float* x,
                              const float* gradient, float* by_weight);

}  // namespace seg
