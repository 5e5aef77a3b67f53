#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

MaybeTensor if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? MaybeTensor(tensor) : std::nullopt;
}

/// Saves x and the result, which the next convolution keeps as well.
class BatchNormReluFunction : public torch::autograd::Function<BatchNormReluFunction> {
 public:
  /// Undefined tensors cannot be inputs of a function.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const MaybeTensor& residual, const MaybeTensor& weight,
                            const MaybeTensor& bias, const MaybeTensor& running_mean,
                            const MaybeTensor& running_var, const BatchNormReluOptions& options) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("segcore::batch_norm_relu", "")
                               .typed<decltype(composed_batch_norm_relu)>();
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [y, mean, invstd] = op.call(x, residual, weight, bias, running_mean, running_var,
                                           options.training, options.momentum, options.eps);
    // In training the running statistics change before the backward pass, which takes the others.
    const auto unless_training = [&](const MaybeTensor& statistic) {
      return options.training ? at::Tensor() : statistic.value_or(at::Tensor());
    };
    context->save_for_backward({x, y, weight.value_or(at::Tensor()), unless_training(running_mean),
                                unless_training(running_var), mean, invstd});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["eps"] = options.eps;
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("segcore::batch_norm_relu_backward", "")
                               .typed<decltype(composed_batch_norm_relu_backward)>();
    const auto saved = context->get_saved_variables();
    const auto [by_x, by_residual, by_weight, by_bias] =
        op.call(gradients[0], saved[0], saved[1], if_defined(saved[2]), if_defined(saved[3]),
                if_defined(saved[4]), saved[5], saved[6], context->saved_data["residual"].toBool(),
                context->saved_data["eps"].toDouble());
    return {by_x, by_residual, by_weight, by_bias, {}, {}, {}};
  }
};

}  // namespace

at::Tensor batch_norm_relu(const at::Tensor& x, const at::Tensor& residual,
                           const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& running_mean, const at::Tensor& running_var,
                           const BatchNormReluOptions& options) {
  return BatchNormReluFunction::apply(x, if_defined(residual), if_defined(weight), if_defined(bias),
                                      if_defined(running_mean), if_defined(running_var), options);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> composed_batch_norm_relu(
    const at::Tensor& x, const MaybeTensor& residual, const MaybeTensor& weight,
    const MaybeTensor& bias, const MaybeTensor& running_mean, const MaybeTensor& running_var,
    bool training, double momentum, double eps) {
  auto [y, mean, invstd] =
      at::native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps);
  if (residual) y.add_(*residual);
  return {y.relu_(), mean, invstd};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> composed_batch_norm_relu_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& y, const MaybeTensor& weight,
    const MaybeTensor& running_mean, const MaybeTensor& running_var, const at::Tensor& mean,
    const at::Tensor& invstd, bool with_residual, double eps) {
  const auto through = at::threshold_backward(gradient, y, 0);
  const bool training = mean.numel() > 0;
  auto [by_x, by_weight, by_bias] =
      at::native_batch_norm_backward(through, x, weight, running_mean, running_var, mean, invstd,
                                     training, eps, {true, weight.has_value(), weight.has_value()});
  return {by_x, with_residual ? through : at::Tensor(), by_weight, by_bias};
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "batch_norm_relu(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, "
      "Tensor(a!)? running_mean, Tensor(b!)? running_var, bool training, float momentum, "
      "float eps) -> (Tensor y, Tensor mean, Tensor invstd)");
  m.def(
      "batch_norm_relu_backward(Tensor gradient, Tensor x, Tensor y, Tensor? weight, "
      "Tensor? running_mean, Tensor? running_var, Tensor mean, Tensor invstd, bool with_residual, "
      "float eps) -> (Tensor by_x, Tensor by_residual, Tensor by_weight, Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("batch_norm_relu", &composed_batch_norm_relu);
  m.impl("batch_norm_relu_backward", &composed_batch_norm_relu_backward);
}

}  // namespace seg
