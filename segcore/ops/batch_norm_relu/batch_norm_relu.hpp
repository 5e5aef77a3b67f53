/// The operator segcore::batch_norm_relu: batch norm, a residual sum and ReLU in one pass over the
/// map each, and their gradients in two. Its parts are operators as well, for batches that several
/// processes share.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace torch::autograd {
struct AutogradContext;
}

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

/// The result, and mean and 1 / sqrt(var + eps) that it was normalised by.
using BatchNormReluResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
/// By x, by the residual (undefined without one), and by weight and bias (undefined without them).
using BatchNormReluGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// What other processes have a part in: a batch of which x is one share.
struct SharedBatch {
  at::Tensor sums;    ///< of all shares, as of `batch_norm_relu_sums`
  int64_t count = 0;  ///< values of a channel in all shares
};

// --- The operators without gradients ------------------------------------------------------------

/// \param running_mean, running_var  [C] of x's type, or outside of training double.
BatchNormReluResult batch_norm_relu_forward(const at::Tensor& x,
                                            const std::optional<at::Tensor>& residual,
                                            const std::optional<at::Tensor>& weight,
                                            const std::optional<at::Tensor>& bias,
                                            const std::optional<at::Tensor>& running_mean,
                                            const std::optional<at::Tensor>& running_var,
                                            const BatchNormReluOptions& options);
/// Whether the CPU's kernel serves it, other types and layouts are composed.
bool has_batch_norm_relu_kernel(const at::Tensor& x, const std::optional<at::Tensor>& residual,
                                const std::optional<at::Tensor>& weight);
/// Whether anything has a gradient, and the result is the same bit for bit when it is made again.
bool can_recompute_batch_norm_relu(const at::Tensor& x, const at::Tensor& residual,
                                   const at::Tensor& weight, const at::Tensor& bias);
/// In the forward pass of an autograd function: lets autograd compute y by `batch_norm_relu_again`
/// where it saves it, until `end_batch_norm_relu` in the backward pass.
/// \param recomputes  as of `can_recompute_batch_norm_relu`; false: does nothing.
void recompute_batch_norm_relu(torch::autograd::AutogradContext& context, bool recomputes,
                               const at::Tensor& y, const at::Tensor& x,
                               const std::optional<at::Tensor>& residual,
                               const std::optional<at::Tensor>& weight,
                               const std::optional<at::Tensor>& bias, const at::Tensor& mean,
                               const at::Tensor& invstd);
void end_batch_norm_relu(torch::autograd::AutogradContext& context);
/// The result once more.
/// \param mean, invstd  as of the forward pass.
at::Tensor batch_norm_relu_again(const at::Tensor& x, const std::optional<at::Tensor>& residual,
                                 const std::optional<at::Tensor>& weight,
                                 const std::optional<at::Tensor>& bias, const at::Tensor& mean,
                                 const at::Tensor& invstd);
/// \param y, mean, invstd  as of the forward pass.
/// \param of_batch  mean and invstd are those of x, and have gradients.
/// \param shared    they are those of a batch that x is a share of: then without the gradients by
///                  weight and bias, which are `batch_norm_relu_sums` of the share.
BatchNormReluGradients batch_norm_relu_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& y,
    const std::optional<at::Tensor>& weight, const at::Tensor& mean, const at::Tensor& invstd,
    bool with_residual, bool of_batch, const std::optional<SharedBatch>& shared = std::nullopt);
/// Mean and biased variance of each channel, double [2, C].
at::Tensor batch_norm_moments(const at::Tensor& x);
/// Of the gradient that passes the ReLU the sum over each channel, and that of its products with
/// x - mean, double [2, C].
at::Tensor batch_norm_relu_sums(const at::Tensor& gradient, const at::Tensor& x,
                                const at::Tensor& y, const at::Tensor& mean);

// --- Their definitions by ATen operators, for all that has no other kernel ----------------------

BatchNormReluResult composed_batch_norm_relu(const at::Tensor& x,
                                             const std::optional<at::Tensor>& residual,
                                             const std::optional<at::Tensor>& weight,
                                             const std::optional<at::Tensor>& bias,
                                             const std::optional<at::Tensor>& running_mean,
                                             const std::optional<at::Tensor>& running_var,
                                             bool training, double momentum, double eps);
at::Tensor composed_batch_norm_relu_again(const at::Tensor& x,
                                          const std::optional<at::Tensor>& residual,
                                          const std::optional<at::Tensor>& weight,
                                          const std::optional<at::Tensor>& bias,
                                          const at::Tensor& mean, const at::Tensor& invstd);
BatchNormReluGradients composed_batch_norm_relu_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& y,
    const std::optional<at::Tensor>& weight, const at::Tensor& mean, const at::Tensor& invstd,
    bool with_residual, bool of_batch, const std::optional<at::Tensor>& shared_sums,
    int64_t shared_count);
at::Tensor composed_batch_norm_moments(const at::Tensor& x);
at::Tensor composed_batch_norm_relu_sums(const at::Tensor& gradient, const at::Tensor& x,
                                         const at::Tensor& y, const at::Tensor& mean);

}  // namespace seg
