/// The operator segcore::batch_norm_relu: batch norm, a residual sum and ReLU in one pass over the
/// map each, and their gradients in two.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace seg {

struct BatchNormReluOptions {
  bool training = true;  ///< by the statistics of the batch, which the running ones then follow
  double momentum = 0.1, eps = 1e-5;
};

/// relu((x - mean) / sqrt(var + eps) * weight + bias + residual).
/// \param x  [N, C, ...].
/// \param residual  of the same shape and type, or undefined.
/// \param weight, bias  [C], or undefined.
/// \param running_mean, running_var  [C], or undefined in training; changed in training.
at::Tensor batch_norm_relu(const at::Tensor& x, const at::Tensor& residual,
                           const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& running_mean, const at::Tensor& running_var,
                           const BatchNormReluOptions& options);

/// The definition by ATen operators; the kernel of all devices, types and layouts that have no
/// other. \return the result, and in training mean and 1 / sqrt(var + eps) of the batch, else
/// empty.
std::tuple<at::Tensor, at::Tensor, at::Tensor> composed_batch_norm_relu(
    const at::Tensor& x, const std::optional<at::Tensor>& residual,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& running_mean, const std::optional<at::Tensor>& running_var,
    bool training, double momentum, double eps);

/// The gradients by x, residual (undefined without one), weight and bias.
/// \param y  the result.
/// \param mean, invstd  of the batch; empty: the running statistics count.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> composed_batch_norm_relu_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& y,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& running_mean,
    const std::optional<at::Tensor>& running_var, const at::Tensor& mean, const at::Tensor& invstd,
    bool with_residual, double eps);

}  // namespace seg
