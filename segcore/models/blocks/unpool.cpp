#include "segcore/models/blocks/unpool.hpp"

#include "segcore/torch.hpp"

namespace seg {

PlacedMaxima pool_with_places(const torch::Tensor& x) {
  auto [values, places] =
      at::max_pool2d_with_indices(x, /*kernel_size=*/2, /*stride=*/2, /*padding=*/0,
                                  /*dilation=*/1, /*ceil_mode=*/true);
  return {values, places};
}

torch::Tensor unpool(const torch::Tensor& x, const torch::Tensor& places, Size2 size) {
  // Windows do not overlap: no two values have one place, so that this is deterministic, which
  // max_unpool2d is not on a GPU.
  const auto own = places.narrow(1, 0, x.size(1)).flatten(2);
  return x.new_zeros({x.size(0), x.size(1), size.h * size.w})
      .scatter(2, own, x.flatten(2))
      .view({x.size(0), x.size(1), size.h, size.w});
}

}  // namespace seg
