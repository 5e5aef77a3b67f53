#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"

#include <torch/library.h>

#include "segcore/memory/recomputation.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

/// Saves x and the result, which the next convolution saves as well: in training both recompute it.
class BatchNormReluFunction : public torch::autograd::Function<BatchNormReluFunction> {
 public:
  /// Undefined tensors cannot be inputs of a function.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const MaybeTensor& residual, const MaybeTensor& weight,
                            const MaybeTensor& bias, const MaybeTensor& running_mean,
                            const MaybeTensor& running_var, const BatchNormReluOptions& options,
                            bool recomputes) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [y, mean, invstd] =
        batch_norm_relu_forward(x, residual, weight, bias, running_mean, running_var, options);
    recompute_batch_norm_relu(*context, recomputes, y, x, residual, weight, bias, mean, invstd);
    context->save_for_backward({x, y, weight.value_or(at::Tensor()), mean, invstd});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["training"] = options.training;
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto [by_x, by_residual, by_weight, by_bias] = batch_norm_relu_backward(
        gradients[0], saved[0], saved[1], if_defined(saved[2]), saved[3], saved[4],
        context->saved_data["residual"].toBool(), context->saved_data["training"].toBool());
    end_batch_norm_relu(*context);
    return {by_x, by_residual, by_weight, by_bias, {}, {}, {}, {}};
  }
};

/// [C] beside [N, C, ...], in the type of the map.
at::Tensor beside(const at::Tensor& v, const at::Tensor& map) {
  std::vector<int64_t> shape(static_cast<size_t>(map.dim()), 1);
  shape[1] = v.size(0);
  return v.to(map.scalar_type()).view(shape);
}

/// The sum over all but the channels, double [C].
at::Tensor channel_sum(const at::Tensor& map) {
  return map.transpose(0, 1).flatten(1).sum(1, /*keepdim=*/false, at::kDouble);
}

}  // namespace

at::Tensor batch_norm_relu(const at::Tensor& x, const at::Tensor& residual,
                           const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& running_mean, const at::Tensor& running_var,
                           const BatchNormReluOptions& options) {
  return BatchNormReluFunction::apply(x, if_defined(residual), if_defined(weight), if_defined(bias),
                                      if_defined(running_mean), if_defined(running_var), options,
                                      can_recompute_batch_norm_relu(x, residual, weight, bias));
}

BatchNormReluResult batch_norm_relu_forward(const at::Tensor& x, const MaybeTensor& residual,
                                            const MaybeTensor& weight, const MaybeTensor& bias,
                                            const MaybeTensor& running_mean,
                                            const MaybeTensor& running_var,
                                            const BatchNormReluOptions& options) {
  static const auto op =
      find_operator<decltype(composed_batch_norm_relu)>("segcore::batch_norm_relu");
  return op.call(x, residual, weight, bias, running_mean, running_var, options.training,
                 options.momentum, options.eps);
}

bool can_recompute_batch_norm_relu(const at::Tensor& x, const at::Tensor& residual,
                                   const at::Tensor& weight, const at::Tensor& bias) {
  const auto learns = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  return at::GradMode::is_enabled() &&
         (learns(x) || learns(residual) || learns(weight) || learns(bias)) &&
         has_batch_norm_relu_kernel(x, if_defined(residual), if_defined(weight));
}

void recompute_batch_norm_relu(torch::autograd::AutogradContext& context, bool recomputes,
                               const at::Tensor& y, const at::Tensor& x,
                               const MaybeTensor& residual, const MaybeTensor& weight,
                               const MaybeTensor& bias, const at::Tensor& mean,
                               const at::Tensor& invstd) {
  if (!recomputes) return;
  const auto given = [](const MaybeTensor& t) { return t.value_or(at::Tensor()); };
  context.saved_data["result"] = at::IValue::make_capsule(c10::make_intrusive<SharedRecomputation>(
      y, std::vector<at::Tensor>{x, given(residual), given(weight), given(bias), mean, invstd},
      [](const std::vector<at::Tensor>& in) {
        return batch_norm_relu_again(in[0], if_defined(in[1]), if_defined(in[2]), if_defined(in[3]),
                                     in[4], in[5]);
      }));
}

void end_batch_norm_relu(torch::autograd::AutogradContext& context) {
  const auto result = context.saved_data.find("result");
  if (result != context.saved_data.end()) end_recomputation(result->second);
}

at::Tensor batch_norm_relu_again(const at::Tensor& x, const MaybeTensor& residual,
                                 const MaybeTensor& weight, const MaybeTensor& bias,
                                 const at::Tensor& mean, const at::Tensor& invstd) {
  static const auto op =
      find_operator<decltype(composed_batch_norm_relu_again)>("segcore::batch_norm_relu_again");
  return op.call(x, residual, weight, bias, mean, invstd);
}

BatchNormReluGradients batch_norm_relu_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                const at::Tensor& y, const MaybeTensor& weight,
                                                const at::Tensor& mean, const at::Tensor& invstd,
                                                bool with_residual, bool of_batch,
                                                const std::optional<SharedBatch>& shared) {
  static const auto op = find_operator<decltype(composed_batch_norm_relu_backward)>(
      "segcore::batch_norm_relu_backward");
  return op.call(gradient, x, y, weight, mean, invstd, with_residual, of_batch,
                 shared ? MaybeTensor(shared->sums) : std::nullopt, shared ? shared->count : 0);
}

at::Tensor batch_norm_moments(const at::Tensor& x) {
  static const auto op =
      find_operator<decltype(composed_batch_norm_moments)>("segcore::batch_norm_moments");
  return op.call(x);
}

at::Tensor batch_norm_relu_sums(const at::Tensor& gradient, const at::Tensor& x,
                                const at::Tensor& y, const at::Tensor& mean) {
  static const auto op =
      find_operator<decltype(composed_batch_norm_relu_sums)>("segcore::batch_norm_relu_sums");
  return op.call(gradient, x, y, mean);
}

BatchNormReluResult composed_batch_norm_relu(const at::Tensor& x, const MaybeTensor& residual,
                                             const MaybeTensor& weight, const MaybeTensor& bias,
                                             const MaybeTensor& running_mean,
                                             const MaybeTensor& running_var, bool training,
                                             double momentum, double eps) {
  const auto statistic = [&](const MaybeTensor& given) {
    return training || !given ? given : MaybeTensor(given->to(x.scalar_type()));
  };
  const auto own_mean = statistic(running_mean), own_var = statistic(running_var);
  auto [y, mean, invstd] =
      at::native_batch_norm(x, weight, bias, own_mean, own_var, training, momentum, eps);
  if (residual) y.add_(*residual);
  if (!training) {
    mean = own_mean->clone();
    invstd = (*own_var + eps).rsqrt();
  }
  return {y.relu_(), mean, invstd};
}

at::Tensor composed_batch_norm_relu_again(const at::Tensor& x, const MaybeTensor& residual,
                                          const MaybeTensor& weight, const MaybeTensor& bias,
                                          const at::Tensor& mean, const at::Tensor& invstd) {
  const auto scale = weight ? invstd * *weight : invstd;
  auto y = (x - beside(mean, x)) * beside(scale, x);
  if (bias) y.add_(beside(*bias, x));
  if (residual) y.add_(*residual);
  return y.relu_();
}

BatchNormReluGradients composed_batch_norm_relu_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& y, const MaybeTensor& weight,
    const at::Tensor& mean, const at::Tensor& invstd, bool with_residual, bool of_batch,
    const MaybeTensor& shared_sums, int64_t shared_count) {
  const auto through = at::threshold_backward(gradient, y, 0);
  const auto sums = composed_batch_norm_relu_sums(gradient, x, y, mean);
  const auto factor = invstd.to(at::kDouble);
  const auto scale = weight ? factor * *weight : factor;
  auto by_x = through * beside(scale, x);
  if (of_batch || shared_sums) {
    const auto of_all = shared_sums.value_or(sums);
    const auto count = static_cast<double>(shared_sums ? shared_count : x.numel() / x.size(1));
    const auto slope = scale * factor.square() * of_all[1] / count;
    by_x = by_x - (x - beside(mean, x)) * beside(slope, x) - beside(scale * of_all[0] / count, x);
  }
  const auto by_residual = with_residual ? through : at::Tensor();
  if (!weight || shared_sums) return {by_x, by_residual, {}, {}};
  return {by_x, by_residual, (sums[1] * factor).to(weight->scalar_type()),
          sums[0].to(weight->scalar_type())};
}

at::Tensor composed_batch_norm_moments(const at::Tensor& x) {
  const auto count = static_cast<double>(x.numel() / x.size(1));
  const auto mean = channel_sum(x) / count;
  const auto deviation = x.to(at::kDouble) - beside(mean, x.to(at::kDouble));
  return at::stack({mean, channel_sum(deviation.square()) / count});
}

at::Tensor composed_batch_norm_relu_sums(const at::Tensor& gradient, const at::Tensor& x,
                                         const at::Tensor& y, const at::Tensor& mean) {
  const auto through = at::threshold_backward(gradient, y, 0);
  return at::stack({channel_sum(through), channel_sum(through * (x - beside(mean, x)))});
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "batch_norm_relu(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, "
      "Tensor(a!)? running_mean, Tensor(b!)? running_var, bool training, float momentum, "
      "float eps) -> (Tensor y, Tensor mean, Tensor invstd)");
  m.def(
      "batch_norm_relu_again(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, "
      "Tensor mean, Tensor invstd) -> Tensor");
  m.def(
      "batch_norm_relu_backward(Tensor gradient, Tensor x, Tensor y, Tensor? weight, "
      "Tensor mean, Tensor invstd, bool with_residual, bool of_batch, Tensor? shared_sums, "
      "int shared_count) -> (Tensor by_x, Tensor by_residual, Tensor by_weight, Tensor by_bias)");
  m.def("batch_norm_moments(Tensor x) -> Tensor");
  m.def("batch_norm_relu_sums(Tensor gradient, Tensor x, Tensor y, Tensor mean) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("batch_norm_relu", &composed_batch_norm_relu);
  m.impl("batch_norm_relu_again", &composed_batch_norm_relu_again);
  m.impl("batch_norm_relu_backward", &composed_batch_norm_relu_backward);
  m.impl("batch_norm_moments", &composed_batch_norm_moments);
  m.impl("batch_norm_relu_sums", &composed_batch_norm_relu_sums);
}

}  // namespace seg
