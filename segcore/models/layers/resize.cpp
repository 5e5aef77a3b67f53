#include "segcore/models/layers/resize.hpp"

#include <cmath>

#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor resize_to(const torch::Tensor& x, Size2 size, std::optional<double> factor,
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

}  // namespace

torch::Tensor resize(const torch::Tensor& x, Size2 size, bool align_corners,
                     const std::string& mode) {
  if (map_size(x) == size) return x;
  return resize_to(x, size, std::nullopt, align_corners, mode);
}

torch::Tensor resize_by(const torch::Tensor& x, double factor, bool align_corners,
                        const std::string& mode) {
  const auto scaled = [factor](int64_t n) {
    return static_cast<int64_t>(std::floor(static_cast<double>(n) * factor));
  };
  return resize_to(x, {scaled(x.size(-2)), scaled(x.size(-1))}, factor, align_corners, mode);
}

}  // namespace seg
