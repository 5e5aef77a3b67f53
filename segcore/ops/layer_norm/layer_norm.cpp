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
    context->save_for_backward({x, mean, invstd, weight.value_or(at::Tensor())});
    context->saved_data["bias"] = bias.has_value();
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    SEG_CHECK(!at::GradMode::is_enabled(), "layer_norm has no second derivative");
    const auto saved = context->get_saved_variables();
    const auto weight = if_defined(saved[3]);
    const size_t place_of_bias = weight ? 2 : 1;  // of the tensors that there are
    const auto [by_x, by_weight, by_bias] = layer_norm_backward(
        gradients[0], saved[0], saved[1], saved[2], weight,
        {context->needs_input_grad(0), weight && context->needs_input_grad(1),
         context->saved_data["bias"].toBool() && context->needs_input_grad(place_of_bias)});
    return {by_x, by_weight, by_bias, {}};
  }
};

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, int64_t columns, const at::Tensor& weight,
                      const at::Tensor& bias, double eps) {
  SEG_CHECK(x.dim() > 0 && x.size(-1) == columns, "layer_norm: expected rows of ", columns,
            " values, got a tensor ", x.sizes());
  if (has_layer_norm_kernel(x, if_defined(weight), if_defined(bias))) {
    return LayerNormFunction::apply(x, if_defined(weight), if_defined(bias), eps);
  }
  return at::layer_norm(x, {columns}, weight, bias, eps);
}

LayerNormResult composed_layer_norm(const at::Tensor& x, const MaybeTensor& weight,
                                    const MaybeTensor& bias, double eps) {
  return at::native_layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

LayerNormGradients composed_layer_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                                const at::Tensor& mean, const at::Tensor& invstd,
                                                const MaybeTensor& weight,
                                                std::array<bool, 3> wanted) {
  return at::native_layer_norm_backward(gradient, x, {x.size(-1)}, mean, invstd, weight,
                                        /*bias=*/weight, wanted);
}

LayerNormGradients layer_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                       const at::Tensor& mean, const at::Tensor& invstd,
                                       const MaybeTensor& weight, std::array<bool, 3> wanted) {
  static const auto op =
      find_operator<decltype(composed_layer_norm_backward)>("segcore::layer_norm_backward");
  return op.call(gradient, x, mean, invstd, weight, wanted);
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "layer_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> "
      "(Tensor y, Tensor mean, Tensor invstd)");
  m.def(
      "layer_norm_backward(Tensor gradient, Tensor x, Tensor mean, Tensor invstd, Tensor? weight, "
      "bool[3] wanted) -> (Tensor by_x, Tensor by_weight, Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("layer_norm", &composed_layer_norm);
  m.impl("layer_norm_backward", &composed_layer_norm_backward);
}

}  // namespace seg
