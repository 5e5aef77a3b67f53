#include "segcore/ops/linear/linear.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

#include "segcore/cpu_vector.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

bool is_faster_as_convolution(const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kLeastRows = 16;
  return has_avx512() && x.is_cpu() && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && weight.dim() == 2 && x.is_contiguous() &&
         x.numel() >= kLeastRows * weight.size(1) && weight.size(1) > 0 &&
         at::globalContext().userEnabledMkldnn() && !at::autocast::is_autocast_enabled(at::kCPU);
}

}  // namespace

at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!is_faster_as_convolution(x, weight)) return at::linear(x, weight, bias);
  const int64_t in = weight.size(1), out = weight.size(0);
  // The rows as the pixels of a channels-last map.
  const auto pixels = x.reshape({1, -1, 1, in}).permute({0, 3, 1, 2});
  const auto y = at::conv2d(pixels, weight.view({out, in, 1, 1}), bias).permute({0, 2, 3, 1});
  auto shape = x.sizes().vec();
  shape.back() = out;
  return y.reshape(shape);
}

}  // namespace seg
