#include "segcore/models/blocks/windows.hpp"

#include <vector>

#include "segcore/memory/recomputation.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor split_windows(const at::Tensor& x, int64_t side) {
  const int64_t n = x.size(0), h = x.size(1), w = x.size(2), c = x.size(3);
  return x.view({n, h / side, side, w / side, side, c})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({-1, side * side, c});
}

at::Tensor join_windows(const at::Tensor& windows, int64_t side, int64_t h, int64_t w) {
  const int64_t c = windows.size(2);
  return windows.view({-1, h / side, w / side, side, side, c})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({-1, h, w, c});
}

at::Tensor relative_position_bias(const at::Tensor& table, const at::Tensor& index) {
  return recomputable({table, index}, [](const std::vector<at::Tensor>& in) {
    const int64_t length = in[1].size(0);
    return in[0]
        .index_select(0, in[1].flatten())
        .view({length, length, in[0].size(1)})
        .permute({2, 0, 1})
        .contiguous();
  });
}

}  // namespace seg
