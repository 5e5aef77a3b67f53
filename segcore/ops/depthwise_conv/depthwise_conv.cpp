#include "segcore/ops/depthwise_conv/depthwise_conv.hpp"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <array>

#include "segcore/ops/depthwise_conv/depthwise_layout.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Wanted = std::array<bool, 3>;  ///< gradients by x, weight and bias

at::Tensor composed_depthwise_conv2d(const at::Tensor& x, const at::Tensor& weight,
                                     const MaybeTensor& bias, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef dilation) {
  return at::conv2d(x, weight, bias, stride, padding, dilation, /*groups=*/weight.size(0));
}

Gradients composed_depthwise_conv2d_backward(const at::Tensor& gradient, const at::Tensor& x,
                                             const at::Tensor& weight, at::IntArrayRef stride,
                                             at::IntArrayRef padding, at::IntArrayRef dilation,
                                             Wanted wanted) {
  const int64_t sizes[] = {weight.size(0)};
  return at::convolution_backward(
      gradient, x, weight, wanted[2] ? at::OptionalIntArrayRef(sizes) : std::nullopt, stride,
      padding, dilation, /*transposed=*/false, {0, 0}, /*groups=*/weight.size(0), wanted);
}

DepthwiseShape shape_of(const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef stride,
                        at::IntArrayRef padding, at::IntArrayRef dilation) {
  const auto axis = [&](size_t i) {
    const auto dim = static_cast<int64_t>(i) + 2;
    DepthwiseAxis out{x.size(dim), 0, weight.size(dim), stride[i], padding[i], dilation[i]};
    out.out = (out.in + 2 * out.padding - out.dilation * (out.kernel - 1) - 1) / out.stride + 1;
    return out;
  };
  return {x.size(0), x.size(1), axis(0), axis(1)};
}

at::MemoryFormat format_of(const at::Tensor& x) {
  return x.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
}

bool has_kernel(const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef stride,
                at::IntArrayRef padding, at::IntArrayRef dilation) {
  if (!x.is_cpu() || x.dim() != 4 || x.scalar_type() != at::kFloat || x.numel() == 0 ||
      weight.scalar_type() != at::kFloat || at::autocast::is_autocast_enabled(at::kCPU) ||
      weight.size(0) != x.size(1) || !x.is_contiguous(format_of(x))) {
    return false;
  }
  const auto shape = shape_of(x, weight, stride, padding, dilation);
  const auto fits = [](const DepthwiseAxis& axis) {
    return axis.extent(1) <= axis.in + 2 * axis.padding && axis.adjoint().padding >= 0;
  };
  return fits(shape.h) && fits(shape.w);
}

/// As `correlate_rows` takes it, [taps, C], or `correlate_planes`, [C, taps].
at::Tensor laid_out(const at::Tensor& weight, bool rows) {
  const auto taps = weight.flatten(1);
  return (rows ? taps.t() : taps).contiguous();
}

at::Tensor correlate(const DepthwiseShape& shape, const at::Tensor& x, const at::Tensor& weight,
                     const at::Tensor& bias) {
  const auto format = format_of(x);
  const bool rows = format == at::MemoryFormat::ChannelsLast;
  auto y = at::empty({shape.images, shape.channels, shape.h.out, shape.w.out}, x.options(), format);
  const auto weights = laid_out(weight, rows);
  (rows ? correlate_rows : correlate_planes)(
      shape, x.const_data_ptr<float>(), weights.const_data_ptr<float>(),
      bias.defined() ? bias.const_data_ptr<float>() : nullptr, y.mutable_data_ptr<float>());
  return y;
}

at::Tensor cpu_depthwise_conv2d(const at::Tensor& x, const at::Tensor& weight,
                                const MaybeTensor& bias, at::IntArrayRef stride,
                                at::IntArrayRef padding, at::IntArrayRef dilation) {
  if (!has_kernel(x, weight, stride, padding, dilation)) {
    return composed_depthwise_conv2d(x, weight, bias, stride, padding, dilation);
  }
  return correlate(shape_of(x, weight, stride, padding, dilation), x, weight,
                   bias ? bias->contiguous() : at::Tensor());
}

Gradients cpu_depthwise_conv2d_backward(const at::Tensor& some_gradient, const at::Tensor& x,
                                        const at::Tensor& weight, at::IntArrayRef stride,
                                        at::IntArrayRef padding, at::IntArrayRef dilation,
                                        Wanted wanted) {
  if (!has_kernel(x, weight, stride, padding, dilation)) {
    return composed_depthwise_conv2d_backward(some_gradient, x, weight, stride, padding, dilation,
                                              wanted);
  }
  const auto shape = shape_of(x, weight, stride, padding, dilation);
  const auto gradient = some_gradient.contiguous(format_of(x));
  Gradients out;
  auto& [by_x, by_weight, by_bias] = out;
  if (wanted[0]) {
    const DepthwiseShape adjoint{shape.images, shape.channels, shape.h.adjoint(),
                                 shape.w.adjoint()};
    by_x = correlate(adjoint, gradient, weight.flip({2, 3}), {});
  }
  if (wanted[1] || wanted[2]) {
    const bool rows = format_of(x) == at::MemoryFormat::ChannelsLast;
    by_weight = laid_out(at::empty_like(weight), rows);
    if (wanted[2]) by_bias = at::empty({shape.channels}, weight.options());
    (rows ? depthwise_weight_gradient_rows : depthwise_weight_gradient_planes)(
        shape, x.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
        by_weight.mutable_data_ptr<float>(),
        wanted[2] ? by_bias.mutable_data_ptr<float>() : nullptr);
    by_weight = (rows ? by_weight.t() : by_weight).reshape(weight.sizes());
    if (!wanted[1]) by_weight.reset();
  }
  return out;
}

class DepthwiseConvFunction : public torch::autograd::Function<DepthwiseConvFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const MaybeTensor& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["stride"] = stride.vec();
    context->saved_data["padding"] = padding.vec();
    context->saved_data["dilation"] = dilation.vec();
    static const auto op =
        find_operator<decltype(composed_depthwise_conv2d)>("segcore::depthwise_conv2d");
    return op.call(x, weight, bias, stride, padding, dilation);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const Wanted wanted{context->needs_input_grad(0), context->needs_input_grad(1),
                        data["bias"].toBool() && context->needs_input_grad(2)};
    static const auto op = find_operator<decltype(composed_depthwise_conv2d_backward)>(
        "segcore::depthwise_conv2d_backward");
    const auto [by_x, by_weight, by_bias] =
        op.call(gradients[0], saved[0], saved[1], data["stride"].toIntVector(),
                data["padding"].toIntVector(), data["dilation"].toIntVector(), wanted);
    return {by_x, by_weight, by_bias, {}, {}, {}};
  }
};

}  // namespace

at::Tensor depthwise_conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation) {
  if (!has_kernel(x, weight, stride, padding, dilation)) {
    return composed_depthwise_conv2d(x, weight, if_defined(bias), stride, padding, dilation);
  }
  return DepthwiseConvFunction::apply(x, weight, if_defined(bias), stride, padding, dilation);
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "depthwise_conv2d(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, "
      "int[2] dilation) -> Tensor");
  m.def(
      "depthwise_conv2d_backward(Tensor gradient, Tensor x, Tensor weight, int[2] stride, "
      "int[2] padding, int[2] dilation, bool[3] wanted) -> (Tensor by_x, Tensor by_weight, "
      "Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("depthwise_conv2d", &composed_depthwise_conv2d);
  m.impl("depthwise_conv2d_backward", &composed_depthwise_conv2d_backward);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("depthwise_conv2d", &cpu_depthwise_conv2d);
  m.impl("depthwise_conv2d_backward", &cpu_depthwise_conv2d_backward);
}

}  // namespace seg
