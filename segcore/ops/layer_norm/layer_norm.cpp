#include "segcore/ops/layer_norm/layer_norm.hpp"

#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

class LayerNormFunction : public torch::autograd::Function<LayerNormFunction> {
 public:
  /// Undefined tensors cannot be inputs of a function.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const MaybeTensor& weight, const MaybeTensor& bias, double eps) {
    static const auto op = find_operator<decltype(composed_layer_norm)>("segcore::layer_norm");
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [y, mean, invstd] = op.call(x, weight, bias, eps);
    context->save_for_backward(
        {x, mean, invstd, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())});
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    SEG_CHECK(!at::GradMode::is_enabled(), "layer_norm has no second derivative");
    static const auto op =
        find_operator<decltype(composed_layer_norm_backward)>("segcore::layer_norm_backward");
    const auto saved = context->get_saved_variables();
    const auto [by_x, by_weight, by_bias] = op.call(gradients[0], saved[0], saved[1], saved[2],
                                                    if_defined(saved[3]), if_defined(saved[4]));
    return {by_x, by_weight, by_bias, {}};
  }
};

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  if (has_layer_norm_kernel(x, if_defined(weight), if_defined(bias))) {
    return LayerNormFunction::apply(x, if_defined(weight), if_defined(bias), eps);
  }
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

LayerNormResult composed_layer_norm(const at::Tensor& x, const MaybeTensor& weight,
                                    const MaybeTensor& bias, double eps) {
  return at::native_layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

LayerNormGradients composed_layer_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                const at::Tensor& mean, const at::Tensor& invstd,
                                                const MaybeTensor& weight,
                                                const MaybeTensor& bias) {
  return at::native_layer_norm_backward(gradient, x, {x.size(-1)}, mean, invstd, weight, bias,
                                        {true, weight.has_value(), bias.has_value()});
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "layer_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> "
      "(Tensor y, Tensor mean, Tensor invstd)");
  m.def(
      "layer_norm_backward(Tensor gradient, Tensor x, Tensor mean, Tensor invstd, Tensor? weight, "
      "Tensor? bias) -> (Tensor by_x, Tensor by_weight, Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("layer_norm", &composed_layer_norm);
  m.impl("layer_norm_backward", &composed_layer_norm_backward);
}

}  // namespace seg
