#include "segcore/ops/pointwise_conv/pointwise_conv.hpp"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <array>

#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

at::Tensor composed_pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight,
                                     const MaybeTensor& bias) {
  return at::conv2d(x, weight, bias);
}

bool has_kernel(const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kLeastPixels = 16;  // a product with few columns is slower
  return x.is_cpu() && x.dim() == 4 && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && x.is_contiguous() && x.numel() > 0 &&
         x.size(2) * x.size(3) >= kLeastPixels && !at::autocast::is_autocast_enabled(at::kCPU);
}

at::Tensor cpu_pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight,
                                const MaybeTensor& bias) {
  if (!has_kernel(x, weight)) return composed_pointwise_conv2d(x, weight, bias);
  const int64_t images = x.size(0), out = weight.size(0);
  const auto matrices = weight.reshape({out, -1}).expand({images, -1, -1});
  const auto pixels = x.flatten(2);  // [N, I, HW]
  const auto y =
      bias ? at::baddbmm(bias->view({1, out, 1}), matrices, pixels) : at::bmm(matrices, pixels);
  return y.view({images, out, x.size(2), x.size(3)});
}

class PointwiseConvFunction : public torch::autograd::Function<PointwiseConvFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const MaybeTensor& bias) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    static const auto op =
        find_operator<decltype(composed_pointwise_conv2d)>("segcore::pointwise_conv2d");
    return op.call(x, weight, bias);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const bool bias = context->saved_data["bias"].toBool() && context->needs_input_grad(2);
    const std::array<bool, 3> wanted{context->needs_input_grad(0), context->needs_input_grad(1),
                                     bias};
    const int64_t sizes[] = {saved[1].size(0)};
    const auto [by_x, by_weight, by_bias] = at::convolution_backward(
        gradients[0], saved[0], saved[1], bias ? at::OptionalIntArrayRef(sizes) : std::nullopt,
        {1, 1}, {0, 0}, {1, 1}, /*transposed=*/false, {0, 0}, /*groups=*/1, wanted);
    return {by_x, by_weight, by_bias};
  }
};

}  // namespace

at::Tensor pointwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!has_kernel(x, weight)) return at::conv2d(x, weight, bias);
  return PointwiseConvFunction::apply(x, weight, if_defined(bias));
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def("pointwise_conv2d(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("pointwise_conv2d", &composed_pointwise_conv2d);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) { m.impl("pointwise_conv2d", &cpu_pointwise_conv2d); }

}  // namespace seg
