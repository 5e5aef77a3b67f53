#include "segcore/models/nn/normalize.hpp"

namespace seg {

at::Tensor normalize(const at::Tensor& x, int64_t dim, double p) {
  constexpr double kLeast = 1e-12;
  return x / x.norm(p, {dim}, /*keepdim=*/true).clamp_min(kLeast);
}

}  // namespace seg
