#include "segcore/models/blocks/position_embedding.hpp"

#include <cmath>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor resized_grid(const at::Tensor& grid, Size2 from, Size2 to, const std::string& mode) {
  return nchw_to_nlc(resize(nlc_to_nchw(grid, from), to, false, mode));
}

at::Tensor fitted_position_embedding(const at::Tensor& theirs, const at::Tensor& mine, Size2 grid,
                                     const std::string& mode) {
  if (theirs.dim() != 3 || theirs.size(2) != mine.size(2) || theirs.sizes() == mine.sizes()) {
    return {};
  }
  // The tokens in front are the class token (or none), DeiT's token of distillation, registers; any
  // other length is not that of a square.
  const int64_t length = theirs.size(1);
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(length)) + 1e-6);
  const int64_t front = length - side * side;
  if (side < 1 || front > 8) return {};
  const auto values = theirs.to(torch::kFloat32);
  const auto first = front > 0 ? values : mine.detach().cpu().to(torch::kFloat32);
  return at::cat(
      {first.narrow(1, 0, 1), resized_grid(values.narrow(1, front, side * side), side, grid, mode)},
      1);
}

}  // namespace seg
