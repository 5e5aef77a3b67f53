/// Attention to a few points of several maps.
#pragma once
#include <ATen/core/Tensor.h>

#include <tuple>

#include "segcore/ops/deformable_attention/deformable_attention_sample.hpp"

namespace seg {

/// The sum over levels and points of weighted values at locations. Calls the operator
/// `segcore::deformable_attention`, which is differentiable once. Half precision has too few digits
/// for places in a map: the sums are computed in single precision then.
///
/// Deformable DETR, Zhu et al. 2021, arXiv:2010.04159, section 4.1. Between pixels values are
/// bilinear, outside of their level 0.
/// \param value  float [N, sum of h*w, heads, D], of all levels one after another.
/// \param sizes  height and width of each level.
/// \param locations  float [N, Q, heads, levels, points, 2]: x and y, from 0 to 1 between the outer
///     edges of the level.
/// \param weights  float [N, Q, heads, levels, points]
/// \return [N, Q, heads * D], of the type of the values.
at::Tensor deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                const at::Tensor& locations, const at::Tensor& weights);

/// The definition by ATen operators, the kernel of all devices and types that have no other. All
/// three tensors are float32, or all float64.
at::Tensor composed_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                         const at::Tensor& locations, const at::Tensor& weights);
using DeformableAttentionGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
/// The gradients of value, locations and weights, by ATen operators.
DeformableAttentionGradients composed_deformable_attention_backward(const at::Tensor& grad,
                                                                    const at::Tensor& value,
                                                                    at::IntArrayRef sizes,
                                                                    const at::Tensor& locations,
                                                                    const at::Tensor& weights);

/// \throws Error where the shapes or types of a call do not fit.
DeformableAttentionGeometry deformable_attention_geometry(const at::Tensor& value,
                                                          at::IntArrayRef sizes,
                                                          const at::Tensor& locations,
                                                          const at::Tensor& weights);

}  // namespace seg
