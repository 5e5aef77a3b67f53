/// Deformable convolution of InternImage: each group of channels sums a few taps that offsets move
/// and factors weigh. It has no weights over channels.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <tuple>

#include "segcore/ops/dcnv3/dcnv3_geometry.hpp"

namespace seg {

/// The window of taps; sides are height and width.
struct Dcnv3Window {
  std::array<int64_t, 2> kernel{3, 3}, stride{1, 1}, padding{1, 1}, dilation{1, 1};
  int64_t groups = 1;
  double offset_scale = 1;  ///< stretches the window and its offsets
};

/// DCNv3, Wang et al. 2022, arXiv:2211.05778, section 3.1. Calls the operator `segcore::dcnv3`,
/// which is differentiable once. Half precision has too few digits for places in a map: the sums
/// are computed in single precision then.
///
/// Taps are counted column by column, as in OpenGVLab's operator: tap i * kernel[0] + j is column i
/// and row j of the window. Between pixels values are bilinear, outside of the map 0.
/// \param x       float [N, H, W, groups * C]
/// \param offset  float [N, H', W', groups * taps * 2]: right and down, in pixels.
/// \param mask    float [N, H', W', groups * taps]: factors of the taps.
/// \return [N, H', W', groups * C], of the type of x.
at::Tensor dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                 const Dcnv3Window& window);

/// The definition by ATen operators, the kernel of all devices that have no other. All three
/// tensors are float32, or all float64.
at::Tensor composed_dcnv3(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                          const Dcnv3Window& window);
using Dcnv3Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
/// The gradients of x, offset and mask, by ATen operators.
Dcnv3Gradients composed_dcnv3_backward(const at::Tensor& grad, const at::Tensor& x,
                                       const at::Tensor& offset, const at::Tensor& mask,
                                       const Dcnv3Window& window);

/// \throws Error where the shapes or types of a call do not fit.
Dcnv3Geometry dcnv3_geometry(const at::Tensor& x, const at::Tensor& offset, const at::Tensor& mask,
                             const Dcnv3Window& window);
/// The window that the arguments of the operator describe: kernel, stride, padding and dilation,
/// height before width.
Dcnv3Window dcnv3_window(at::IntArrayRef window, int64_t groups, double offset_scale);

}  // namespace seg
