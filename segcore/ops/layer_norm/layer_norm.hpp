/// The operator segcore::layer_norm: short rows are normalised eight at a time, which LibTorch
/// takes one by one.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

namespace seg {

/// As at::layer_norm over the last dimension, of C = `columns`. Rows of floats on CPUs have a
/// kernel, whose gradients have none of their own. \param x  [..., C]. \param weight, bias  [C], or
/// undefined. \return [..., C] \throws Error where rows have another length than C.
at::Tensor layer_norm(const at::Tensor& x, int64_t columns, const at::Tensor& weight,
                      const at::Tensor& bias, double eps);

// --- The operators without gradients, and their definitions by ATen -----------------------------

/// The result, and mean and 1 / sqrt(var + eps) of each row, [..., 1].
using LayerNormResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
/// By x, weight and bias; undefined where they are not wanted.
using LayerNormGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

LayerNormResult composed_layer_norm(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                                    const std::optional<at::Tensor>& bias, double eps);
/// \param mean, invstd  as of the forward pass.
/// \param wanted  gradients, in their order.
LayerNormGradients composed_layer_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                const at::Tensor& mean, const at::Tensor& invstd,
                                                const std::optional<at::Tensor>& weight,
                                                std::array<bool, 3> wanted);
/// The operator.
LayerNormGradients layer_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                       const at::Tensor& mean, const at::Tensor& invstd,
                                       const std::optional<at::Tensor>& weight,
                                       std::array<bool, 3> wanted);
/// Whether the CPU's kernel serves it.
bool has_layer_norm_kernel(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias);

}  // namespace seg
