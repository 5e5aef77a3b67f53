#include "segcore/models/blocks/rotary_embedding.hpp"

#include <numbers>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Centres of `count` patches, from -1 to 1.
at::Tensor patch_centres(int64_t count, const at::TensorOptions& options) {
  return (at::arange(count, options) + 0.5) / static_cast<double>(count) * 2 - 1;
}

}  // namespace

RotaryEmbedding dinov3_rotary_embedding(Size2 grid, int64_t head_dim, const at::Tensor& like,
                                        double rescale) {
  SEG_CHECK(head_dim % 4 == 0, "the width of a head must be a multiple of 4, got ", head_dim);
  // Angles would lose their last digits in half precision.
  const auto options =
      like.options().dtype(like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const int64_t count = head_dim / 4;
  // Periods are those of single precision, with which the weights were trained.
  const auto exponents = at::arange(count, options.dtype(at::kFloat)) / static_cast<double>(count);
  const auto periods = at::pow(100.0, exponents).to(options);
  const auto angles = [&](int64_t patches) {
    return (patch_centres(patches, options) * (2 * std::numbers::pi * rescale)).unsqueeze(1) /
           periods;  // [patches, count]
  };
  const auto rows = angles(grid.h).unsqueeze(1).expand({grid.h, grid.w, count});
  const auto columns = angles(grid.w).unsqueeze(0).expand({grid.h, grid.w, count});
  const auto both = at::cat({rows, columns, rows, columns}, -1).flatten(0, 1);
  return {both.cos(), both.sin()};
}

at::Tensor rotated(const at::Tensor& x, const RotaryEmbedding& rotary) {
  const int64_t patches = rotary.cos.size(0), before = x.size(2) - patches;
  const auto y = x.narrow(2, before, patches);
  const auto halves = y.chunk(2, -1);
  const auto turned = y * rotary.cos + at::cat({-halves[1], halves[0]}, -1) * rotary.sin;
  return at::cat({x.narrow(2, 0, before), turned.to(x.scalar_type())}, 2);
}

}  // namespace seg
