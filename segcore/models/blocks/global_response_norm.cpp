#include "segcore/models/blocks/global_response_norm.hpp"

#include "segcore/torch.hpp"

namespace seg {

GlobalResponseNorm::GlobalResponseNorm(int64_t channels, const std::string& scale,
                                       const std::string& shift)
    : scale_(register_parameter(scale, torch::zeros({channels}))),
      shift_(register_parameter(shift, torch::zeros({channels}))) {}

torch::Tensor GlobalResponseNorm::forward(const torch::Tensor& x) {
  const auto size = at::norm(x, 2, {1, 2}, /*keepdim=*/true);  // [N, 1, 1, C]
  const auto share = size / (size.mean(-1, true) + 1e-6);
  return scale_ * (x * share) + shift_ + x;
}

}  // namespace seg
