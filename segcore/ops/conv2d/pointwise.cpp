#include <ATen/Parallel.h>

#include <algorithm>

#include "segcore/ops/conv2d/conv2d_kernel.hpp"
#include "segcore/ops/packed_product.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/ops/scratch.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// y [N, rows, H, W] = a matrix [rows, C] times each pixel of x, plus the bias.
/// \param packed  the matrix. \param bias  [rows], or undefined.
at::Tensor multiply_pixels(const Scratch& packed, int64_t rows, const at::Tensor& x,
                           const at::Tensor& bias) {
  constexpr int64_t kColumns = 4 * kTileColumns;  // of a task: others may take the next ones
  const int64_t depth = x.size(1), pixels = x.size(2) * x.size(3);
  auto y = at::empty({x.size(0), rows, x.size(2), x.size(3)}, x.options());
  const float* from = x.const_data_ptr<float>();
  const float* add = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float* to = y.mutable_data_ptr<float>();
  const int64_t tasks = (pixels + kColumns - 1) / kColumns;
  at::parallel_for(0, x.size(0) * tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / tasks, first = task % tasks * kColumns;
      multiply_packed(packed.get(), rows, depth, from + image * depth * pixels + first, pixels,
                      std::min(kColumns, pixels - first), add, to + image * rows * pixels + first,
                      pixels);
    }
  });
  return y;
}

/// oneDNN is up to six times as slow where such a convolution, or its backward pass, widens a map,
/// and MKL's products twice as slow on CPUs with AVX-512 that are not Intel's.
class PointwiseKernel final : public Conv2dKernel {
 public:
  bool fits(const at::Tensor& x, const at::Tensor& weight, const ConvGeometry& g) const override {
    constexpr int64_t kLeastPixels = 16;  // a product with few columns is slower
    constexpr std::array<int64_t, 2> kOne{1, 1}, kNone{0, 0};
    return weight.size(2) == 1 && weight.size(3) == 1 && g.stride == kOne && g.padding == kNone &&
           g.groups == 1 && x.is_contiguous() && x.size(2) * x.size(3) >= kLeastPixels &&
           has_fast_products();
  }

  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const ConvGeometry&) const override {
    const int64_t in = weight.size(1), out = weight.size(0);
    const auto matrix = weight.contiguous();
    const Scratch packed(packed_size(out, in));
    pack_rows(matrix.const_data_ptr<float>(), out, in, /*row_step=*/in, /*step=*/1, packed.get());
    return multiply_pixels(packed, out, x, bias);
  }

  ConvGradients backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                         const ConvGeometry& g, WantedGradients wanted) const override {
    ConvGradients out;
    if (wanted[1] || wanted[2]) {
      out = composed_conv2d_backward(gradient, x, weight, g, {false, wanted[1], wanted[2]});
    }
    if (wanted[0]) {
      const int64_t rows = weight.size(1), depth = weight.size(0);
      const auto matrix = weight.contiguous();
      const Scratch packed(packed_size(rows, depth));
      pack_rows(matrix.const_data_ptr<float>(), rows, depth, /*row_step=*/1, /*step=*/rows,
                packed.get());
      std::get<0>(out) = multiply_pixels(packed, rows, gradient.contiguous(), {});
    }
    return out;
  }
};

}  // namespace

const Conv2dKernel& pointwise_kernel() {
  static const PointwiseKernel kernel;
  return kernel;
}

}  // namespace seg
