#include <ATen/Parallel.h>

#include <algorithm>

#include "segcore/ops/conv2d/conv2d_kernel.hpp"
#include "segcore/ops/packed_product.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/ops/scratch.hpp"

namespace seg {
namespace {

/// oneDNN is up to six times as slow where such a convolution widens a map, though not in its
/// backward pass, and MKL's products twice as slow on CPUs with AVX-512 that are not Intel's.
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
    constexpr int64_t kColumns = 4 * kTileColumns;  // of a task: others may take the next ones
    const int64_t in = x.size(1), out = weight.size(0), pixels = x.size(2) * x.size(3);
    const auto matrix = weight.contiguous();
    auto y = at::empty({x.size(0), out, x.size(2), x.size(3)}, x.options());
    const Scratch packed(packed_size(out, in));
    pack_rows(matrix.const_data_ptr<float>(), out, in, /*step=*/in, packed.get());
    const float* from = x.const_data_ptr<float>();
    const float* add = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
    float* to = y.mutable_data_ptr<float>();
    const int64_t tasks = (pixels + kColumns - 1) / kColumns;
    at::parallel_for(0, x.size(0) * tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t image = task / tasks, first = task % tasks * kColumns;
        multiply_packed(packed.get(), out, in, from + image * in * pixels + first, pixels,
                        std::min(kColumns, pixels - first), add, to + image * out * pixels + first,
                        pixels);
      }
    });
    return y;
  }

  ConvGradients backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                         const ConvGeometry& g, WantedGradients wanted) const override {
    return composed_conv2d_backward(gradient, x, weight, g, wanted);
  }
};

}  // namespace

const Conv2dKernel& pointwise_kernel() {
  static const PointwiseKernel kernel;
  return kernel;
}

}  // namespace seg
