#include "segcore/ops/conv2d/conv2d_kernel.hpp"
#include "segcore/ops/conv2d/depthwise_layout.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

DepthwiseShape shape_of(const at::Tensor& x, const at::Tensor& weight, const ConvGeometry& g) {
  const auto axis = [&](size_t i) {
    const auto dim = static_cast<int64_t>(i) + 2;
    DepthwiseAxis out{x.size(dim), 0, weight.size(dim), g.stride[i], g.padding[i], g.dilation[i]};
    out.out = (out.in + 2 * out.padding - out.dilation * (out.kernel - 1) - 1) / out.stride + 1;
    return out;
  };
  return {x.size(0), x.size(1), axis(0), axis(1)};
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

class DepthwiseKernel final : public Conv2dKernel {
 public:
  bool fits(const at::Tensor& x, const at::Tensor& weight, const ConvGeometry& g) const override {
    const int64_t channels = x.size(1);
    if (g.groups != channels || weight.size(0) != channels || !x.is_contiguous(format_of(x))) {
      return false;
    }
    const auto shape = shape_of(x, weight, g);
    const auto fits = [](const DepthwiseAxis& axis) {
      return axis.extent(1) <= axis.in + 2 * axis.padding && axis.adjoint().padding >= 0;
    };
    return fits(shape.h) && fits(shape.w);
  }

  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const ConvGeometry& g) const override {
    return correlate(shape_of(x, weight, g), x, weight, bias);
  }

  ConvGradients backward(const at::Tensor& some_gradient, const at::Tensor& x,
                         const at::Tensor& weight, const ConvGeometry& g,
                         WantedGradients wanted) const override {
    const auto shape = shape_of(x, weight, g);
    const auto gradient = some_gradient.contiguous(format_of(x));
    ConvGradients out;
    auto& [by_x, by_weight, by_bias] = out;
    if (wanted[0]) {
      const DepthwiseShape adjoint{shape.images, shape.channels, shape.h.adjoint(),
                                   shape.w.adjoint()};
      by_x = correlate(adjoint, gradient, weight.flip({2, 3}), {});
    }
    if (!wanted[1] && !wanted[2]) return out;
    const bool rows = format_of(x) == at::MemoryFormat::ChannelsLast;
    auto of_weight = laid_out(at::empty_like(weight), rows);
    if (wanted[2]) by_bias = at::empty({shape.channels}, weight.options());
    (rows ? depthwise_weight_gradient_rows : depthwise_weight_gradient_planes)(
        shape, x.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
        of_weight.mutable_data_ptr<float>(),
        wanted[2] ? by_bias.mutable_data_ptr<float>() : nullptr);
    if (wanted[1]) by_weight = (rows ? of_weight.t() : of_weight).reshape(weight.sizes());
    return out;
  }
};

}  // namespace

const Conv2dKernel& depthwise_kernel() {
  static const DepthwiseKernel kernel;
  return kernel;
}

}  // namespace seg
