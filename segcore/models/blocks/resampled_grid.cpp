#include "segcore/models/blocks/resampled_grid.hpp"

#include <cmath>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The weights of `from` values in each of `to` resampled ones, [to, from].
///
/// As a matrix, because PyTorch's gradient of the operator differs from run to run on a GPU.
at::Tensor resampling(int64_t from, int64_t to, const at::TensorOptions& options) {
  const auto identity = at::eye(from, at::kDouble).view({1, 1, from, from});
  return at::_upsample_bicubic2d_aa(identity, {to, from}, /*align_corners=*/false)
      .view({to, from})
      .to(options);
}

}  // namespace

at::Tensor resampled_grid(const at::Tensor& grid, Size2 from, Size2 to) {
  if (from == to) return grid;
  const auto rows = resampling(from.h, to.h, grid.options());
  const auto columns = resampling(from.w, to.w, grid.options());
  const auto map = at::matmul(at::matmul(rows, nlc_to_nchw(grid, from)), columns.t());
  return nchw_to_nlc(map);
}

at::Tensor resampled_position_embedding(const at::Tensor& theirs, const at::Tensor& mine,
                                        int64_t front, Size2 grid) {
  if (theirs.dim() != 3 || theirs.size(2) != mine.size(2) || theirs.sizes() == mine.sizes()) {
    return {};
  }
  const int64_t length = theirs.size(1) - front;
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(length)) + 1e-6);
  if (side < 1 || side * side != length) return {};
  const auto values = theirs.to(torch::kFloat32);
  return at::cat(
      {values.narrow(1, 0, front), resampled_grid(values.narrow(1, front, length), side, grid)}, 1);
}

at::Tensor resampled_patch_weight(const at::Tensor& weight, Size2 patch) {
  const auto fitting = [](int64_t from, int64_t to) {
    return at::linalg_pinv(resampling(from, to, at::kDouble).t());  // [to, from]
  };
  const auto rows = fitting(weight.size(2), patch.h), columns = fitting(weight.size(3), patch.w);
  return at::matmul(at::matmul(rows, weight.to(at::kDouble)), columns.t()).to(at::kFloat);
}

}  // namespace seg
