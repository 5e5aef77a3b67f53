#include "segcore/ops/conv2d/conv2d.hpp"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "segcore/ops/conv2d/conv2d_kernel.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

ConvGeometry geometry_of(at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                         int64_t groups) {
  return {{stride[0], stride[1]}, {padding[0], padding[1]}, {dilation[0], dilation[1]}, groups};
}

/// Null where LibTorch's is the best.
const Conv2dKernel* kernel_for(const at::Tensor& x, const at::Tensor& weight,
                               const ConvGeometry& g) {
  if (!x.is_cpu() || x.dim() != 4 || x.scalar_type() != at::kFloat || x.numel() == 0 ||
      weight.scalar_type() != at::kFloat || at::autocast::is_autocast_enabled(at::kCPU)) {
    return nullptr;
  }
  for (const Conv2dKernel* kernel :
       {&pointwise_kernel(), &depthwise_kernel(), &winograd_kernel()}) {
    if (kernel->fits(x, weight, g)) return kernel;
  }
  return nullptr;
}

at::Tensor composed_conv2d(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                           at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, int64_t groups) {
  return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
}

at::Tensor cpu_conv2d(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                      at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                      int64_t groups) {
  const auto g = geometry_of(stride, padding, dilation, groups);
  const auto* kernel = kernel_for(x, weight, g);
  if (!kernel) return composed_conv2d(x, weight, bias, stride, padding, dilation, groups);
  return kernel->forward(x, weight, bias ? bias->contiguous() : at::Tensor(), g);
}

ConvGradients composed_backward(const at::Tensor& gradient, const at::Tensor& x,
                                const at::Tensor& weight, at::IntArrayRef stride,
                                at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                                WantedGradients wanted) {
  return composed_conv2d_backward(gradient, x, weight,
                                  geometry_of(stride, padding, dilation, groups), wanted);
}

ConvGradients cpu_backward(const at::Tensor& gradient, const at::Tensor& x,
                           const at::Tensor& weight, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                           WantedGradients wanted) {
  const auto g = geometry_of(stride, padding, dilation, groups);
  const auto* kernel = kernel_for(x, weight, g);
  return kernel ? kernel->backward(gradient, x, weight, g, wanted)
                : composed_conv2d_backward(gradient, x, weight, g, wanted);
}

class Conv2dFunction : public torch::autograd::Function<Conv2dFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const MaybeTensor& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation, int64_t groups) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, weight});
    auto& data = context->saved_data;
    data["bias"] = bias.has_value();
    data["stride"] = stride.vec();
    data["padding"] = padding.vec();
    data["dilation"] = dilation.vec();
    data["groups"] = groups;
    static const auto op = find_operator<decltype(composed_conv2d)>("segcore::conv2d");
    return op.call(x, weight, bias, stride, padding, dilation, groups);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const WantedGradients wanted{context->needs_input_grad(0), context->needs_input_grad(1),
                                 data["bias"].toBool() && context->needs_input_grad(2)};
    static const auto op = find_operator<decltype(composed_backward)>("segcore::conv2d_backward");
    const auto [by_x, by_weight, by_bias] =
        op.call(gradients[0], saved[0], saved[1], data["stride"].toIntVector(),
                data["padding"].toIntVector(), data["dilation"].toIntVector(),
                data["groups"].toInt(), wanted);
    return {by_x, by_weight, by_bias, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                  int64_t groups) {
  // LibTorch's own has autograd, autocast and a cache of what it has put in order.
  if (!kernel_for(x, weight, geometry_of(stride, padding, dilation, groups))) {
    return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
  }
  return Conv2dFunction::apply(x, weight, if_defined(bias), stride, padding, dilation, groups);
}

ConvGradients composed_conv2d_backward(const at::Tensor& gradient, const at::Tensor& x,
                                       const at::Tensor& weight, const ConvGeometry& g,
                                       WantedGradients wanted) {
  const int64_t sizes[] = {weight.size(0)};
  return at::convolution_backward(
      gradient, x, weight, wanted[2] ? at::OptionalIntArrayRef(sizes) : std::nullopt, g.stride,
      g.padding, g.dilation, /*transposed=*/false, {0, 0}, g.groups, wanted);
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "conv2d(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, "
      "int[2] dilation, int groups) -> Tensor");
  m.def(
      "conv2d_backward(Tensor gradient, Tensor x, Tensor weight, int[2] stride, int[2] padding, "
      "int[2] dilation, int groups, bool[3] wanted) -> (Tensor by_x, Tensor by_weight, "
      "Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("conv2d", &composed_conv2d);
  m.impl("conv2d_backward", &composed_backward);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("conv2d", &cpu_conv2d);
  m.impl("conv2d_backward", &cpu_backward);
}

}  // namespace seg
