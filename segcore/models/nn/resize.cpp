#include "segcore/models/nn/resize.hpp"

#include <ATen/Context.h>

#include <cmath>

#include "segcore/memory/recomputation.hpp"
#include "segcore/ops/bilinear_weights.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor interpolated(const torch::Tensor& x, Size2 size, std::optional<double> factor,
                           bool align_corners, const std::string& mode) {
  if (mode == "bilinear") {
    return at::upsample_bilinear2d(x, {size.h, size.w}, align_corners, factor, factor);
  }
  if (mode == "nearest") return at::upsample_nearest2d(x, {size.h, size.w}, factor, factor);
  if (mode == "nearest-exact") {
    return at::_upsample_nearest_exact2d(x, {size.h, size.w}, factor, factor);
  }
  if (mode == "bicubic") {
    return at::upsample_bicubic2d(x, {size.h, size.w}, align_corners, factor, factor);
  }
  SEG_CHECK(mode == "area", "cannot resize by mode '", mode, "'");
  return at::adaptive_avg_pool2d(x, {size.h, size.w});
}

torch::Tensor resize_to(const torch::Tensor& x, Size2 size, std::optional<double> factor,
                        bool align_corners, const std::string& mode) {
  // LibTorch's gradient on GPUs is added up in an order that changes from run to run.
  if (mode == "bilinear" && x.is_cuda() && x.requires_grad() && at::GradMode::is_enabled() &&
      at::globalContext().deterministicAlgorithms()) {
    return resize_by_products(x, size, align_corners, factor);
  }
  return recomputable(
      {x}, [=](const auto& in) { return interpolated(in[0], size, factor, align_corners, mode); });
}

}  // namespace

torch::Tensor resize(const torch::Tensor& x, Size2 size, bool align_corners,
                     const std::string& mode) {
  if (map_size(x) == size) return x;
  return resize_to(x, size, std::nullopt, align_corners, mode);
}

torch::Tensor resize_by_products(const torch::Tensor& x, Size2 size, bool align_corners,
                                 std::optional<double> factor) {
  // In full precision: halves would round the weights.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto options = x.options().dtype(at::kFloat);
  const auto rows = bilinear_weights(x.size(-2), size.h, factor, align_corners, options);
  const auto columns = bilinear_weights(x.size(-1), size.w, factor, align_corners, options);
  auto out = at::linear(x.to(at::kFloat), columns);                 // [N, C, h, W]
  out = at::linear(out.transpose(-1, -2), rows).transpose(-1, -2);  // [N, C, H, W]
  return out.to(x.scalar_type()).contiguous();
}

torch::Tensor resize_by(const torch::Tensor& x, double factor, bool align_corners,
                        const std::string& mode) {
  const auto scaled = [factor](int64_t n) {
    return static_cast<int64_t>(std::floor(static_cast<double>(n) * factor));
  };
  return resize_to(x, {scaled(x.size(-2)), scaled(x.size(-1))}, factor, align_corners, mode);
}

}  // namespace seg
