#include "segcore/ops/conv2d/conv2d_kernel.hpp"
#include "segcore/ops/conv2d/winograd_passes.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

TileGrid grid_of(const at::Tensor& x, const ConvGeometry& g) {
  return {x.size(0), x.size(2), x.size(3), g.dilation[0]};
}

/// \return a map in the format of x
at::Tensor convolve(const at::Tensor& any_x, const at::Tensor& weight, bool adjoint,
                    const at::Tensor& bias, const ConvGeometry& g) {
  const auto x = any_x.contiguous();
  const auto kernels = weight.contiguous();
  const WinogradKernels of{kernels.const_data_ptr<float>(), weight.size(0), weight.size(1),
                           adjoint};
  auto y = at::empty({x.size(0), of.rows(), x.size(2), x.size(3)}, x.options());
  winograd_convolve(grid_of(x, g), of, x.const_data_ptr<float>(),
                    bias.defined() ? bias.const_data_ptr<float>() : nullptr,
                    y.mutable_data_ptr<float>());
  return y.contiguous(format_of(any_x));
}

class WinogradKernel final : public Conv2dKernel {
 public:
  bool fits(const at::Tensor& x, const at::Tensor& weight, const ConvGeometry& g) const override {
    constexpr std::array<int64_t, 2> kOne{1, 1};
    return weight.size(2) == 3 && weight.size(3) == 3 && g.groups == 1 && g.stride == kOne &&
           g.padding == g.dilation && g.dilation[0] == g.dilation[1] &&
           x.is_contiguous(format_of(x)) && has_fast_products() &&
           winograd_is_faster(grid_of(x, g), x.size(1), weight.size(0), !x.is_contiguous());
  }

  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const ConvGeometry& g) const override {
    return convolve(x, weight, /*adjoint=*/false, bias, g);
  }

  ConvGradients backward(const at::Tensor& some_gradient, const at::Tensor& any_x,
                         const at::Tensor& weight, const ConvGeometry& g,
                         WantedGradients wanted) const override {
    const auto gradient = some_gradient.contiguous();
    ConvGradients out;
    auto& [by_x, by_weight, by_bias] = out;
    if (wanted[0]) {
      by_x = convolve(gradient, weight, /*adjoint=*/true, {}, g).contiguous(format_of(any_x));
    }
    if (wanted[1]) {
      const auto x = any_x.contiguous();
      by_weight = at::empty(weight.sizes(), weight.options());
      winograd_kernel_gradient(grid_of(x, g), weight.size(1), weight.size(0),
                               x.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
                               by_weight.mutable_data_ptr<float>());
    }
    if (wanted[2]) by_bias = gradient.sum({0, 2, 3});
    return out;
  }
};

}  // namespace

const Conv2dKernel& winograd_kernel() {
  static const WinogradKernel kernel;
  return kernel;
}

bool winograd_is_faster(const TileGrid& grid, int64_t in, int64_t out, bool copied) {
  const auto tiles = static_cast<double>(grid.rows() * grid.columns());
  // In multiplications for one of a tile's 36 numbers, one input and one output channel. Measured:
  // a transform of a tile takes as long as 50, a copy of its pixels as 90, the transform of a
  // kernel as 100 or, beyond the caches, 250.
  const double of_kernels = in * out > (1 << 14) ? 250 : 100;
  const double of_tiles = copied ? 50.0 + 90.0 : 50.0;
  const double numbers = 1.15 + of_tiles / static_cast<double>(in) +
                         of_tiles / static_cast<double>(out) + of_kernels / tiles;
  // A direct convolution takes sixteen channels at a time, but for the few of images.
  const auto channels = [](int64_t count) {
    return static_cast<double>(count < 16 ? count : (count + 15) / 16 * 16);
  };
  const double pixels = static_cast<double>(grid.images * grid.height * grid.width) / tiles;
  const double direct =
      9.0 / kTileProducts * pixels * channels(in) * channels(out) / static_cast<double>(in * out);
  return numbers < direct;
}

}  // namespace seg
