#include "segcore/ops/deformable_attention/deformable_attention.hpp"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <vector>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using AttentionSignature = at::Tensor(const at::Tensor& value, at::IntArrayRef sizes,
                                      const at::Tensor& locations, const at::Tensor& weights);
using AttentionBackwardSignature = DeformableAttentionGradients(const at::Tensor& grad,
                                                                const at::Tensor& value,
                                                                at::IntArrayRef sizes,
                                                                const at::Tensor& locations,
                                                                const at::Tensor& weights);

/// A level as grid_sampler takes it, a head as an image of its own.
struct AttendedLevel {
  at::Tensor map;      ///< [N * heads, D, h, w]
  at::Tensor grid;     ///< [N * heads, Q, points, 2], -1 to 1 between the outer edges
  at::Tensor weights;  ///< [N * heads, 1, Q, points]
};

AttendedLevel attended_level(const at::Tensor& value, const at::Tensor& locations,
                             const at::Tensor& weights, const DeformableAttentionGeometry& g,
                             int64_t level) {
  const int64_t parts = g.images * g.heads, h = g.height[level], w = g.width[level];
  const auto of_heads = [&](const at::Tensor& t) { return t.select(3, level).transpose(1, 2); };
  return {value.narrow(1, g.first[level], h * w)
              .permute({0, 2, 3, 1})
              .reshape({parts, g.channels, h, w}),
          (2 * of_heads(locations) - 1).reshape({parts, g.queries, g.points, 2}),
          of_heads(weights).reshape({parts, 1, g.queries, g.points})};
}

at::Tensor sampled(const AttendedLevel& level) {
  return at::grid_sampler(level.map, level.grid, /*bilinear=*/0, /*zeros=*/0, false);
}

at::Tensor call_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                     const at::Tensor& locations, const at::Tensor& weights) {
  static const auto op = find_operator<AttentionSignature>("segcore::deformable_attention");
  return op.call(value, sizes, locations, weights);
}

class DeformableAttentionFunction final
    : public torch::autograd::Function<DeformableAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& value,
                            at::IntArrayRef sizes, const at::Tensor& locations,
                            const at::Tensor& weights) {
    ctx->save_for_backward({value, locations, weights});
    ctx->saved_data["sizes"] = sizes.vec();
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_deformable_attention(value, sizes, locations, weights);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op =
        find_operator<AttentionBackwardSignature>("segcore::deformable_attention_backward");
    SEG_CHECK(!at::GradMode::is_enabled(), "deformable_attention has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const auto [value, locations, weights] =
        op.call(grads[0], saved[0], ctx->saved_data["sizes"].toIntVector(), saved[1], saved[2]);
    return {value, {}, locations, weights};
  }
};

at::Tensor differentiable_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                               const at::Tensor& locations,
                                               const at::Tensor& weights) {
  return DeformableAttentionFunction::apply(value, sizes, locations, weights);
}

}  // namespace

DeformableAttentionGeometry deformable_attention_geometry(const at::Tensor& value,
                                                          at::IntArrayRef sizes,
                                                          const at::Tensor& locations,
                                                          const at::Tensor& weights) {
  SEG_CHECK(value.dim() == 4, "deformable_attention: expected values [N, pixels, heads, D], got ",
            value.sizes());
  SEG_CHECK(locations.dim() == 6,
            "deformable_attention: expected locations [N, Q, heads, levels, points, 2], got ",
            locations.sizes());
  const auto levels = static_cast<int64_t>(sizes.size()) / 2;
  SEG_CHECK(sizes.size() % 2 == 0 && levels > 0 && levels <= kMostAttendedLevels,
            "deformable_attention: expected height and width of one to ", kMostAttendedLevels,
            " levels, got ", sizes);
  DeformableAttentionGeometry g{.images = value.size(0),
                                .queries = locations.size(1),
                                .heads = value.size(2),
                                .channels = value.size(3),
                                .levels = levels,
                                .points = locations.size(4),
                                .pixels = value.size(1),
                                .height = {},
                                .width = {},
                                .first = {}};
  int64_t pixels = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const auto at = static_cast<size_t>(2 * level);
    SEG_CHECK(sizes[at] > 0 && sizes[at + 1] > 0, "deformable_attention: a level of ", sizes[at],
              "x", sizes[at + 1], " pixels");
    g.height[level] = sizes[at];
    g.width[level] = sizes[at + 1];
    g.first[level] = pixels;
    pixels += sizes[at] * sizes[at + 1];
  }
  SEG_CHECK(pixels == g.pixels, "deformable_attention: levels of ", pixels,
            " pixels, but values of ", g.pixels);
  const auto check = [&](const at::Tensor& t, const char* name, std::vector<int64_t> shape) {
    SEG_CHECK(t.sizes() == at::IntArrayRef(shape), "deformable_attention: ", name, ": expected ",
              at::IntArrayRef(shape), ", got ", t.sizes());
    SEG_CHECK(t.scalar_type() == value.scalar_type(), "deformable_attention: ", name, " are ",
              t.scalar_type(), ", the values ", value.scalar_type());
  };
  check(locations, "locations", {g.images, g.queries, g.heads, levels, g.points, 2});
  check(weights, "weights", {g.images, g.queries, g.heads, levels, g.points});
  return g;
}

at::Tensor composed_deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                         const at::Tensor& locations, const at::Tensor& weights) {
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  at::Tensor sum;  // [N * heads, D, Q]
  for (int64_t i = 0; i < g.levels; ++i) {
    const auto level = attended_level(value, locations, weights, g, i);
    const auto of_level = (sampled(level) * level.weights).sum(-1);
    sum = sum.defined() ? sum + of_level : of_level;
  }
  return sum.view({g.images, g.heads * g.channels, g.queries}).transpose(1, 2).contiguous();
}

DeformableAttentionGradients composed_deformable_attention_backward(const at::Tensor& grad,
                                                                    const at::Tensor& value,
                                                                    at::IntArrayRef sizes,
                                                                    const at::Tensor& locations,
                                                                    const at::Tensor& weights) {
  const auto g = deformable_attention_geometry(value, sizes, locations, weights);
  const auto from = grad.reshape({g.images, g.queries, g.heads, g.channels})
                        .permute({0, 2, 3, 1})
                        .reshape({g.images * g.heads, g.channels, g.queries, 1});
  std::vector<at::Tensor> values, places, factors;  // of each level
  for (int64_t i = 0; i < g.levels; ++i) {
    const auto level = attended_level(value, locations, weights, g, i);
    const auto [map, grid] =
        at::grid_sampler_2d_backward(from * level.weights, level.map, level.grid, /*bilinear=*/0,
                                     /*zeros=*/0, false, {true, true});
    values.push_back(map.reshape({g.images, g.heads, g.channels, -1}).permute({0, 3, 1, 2}));
    // The grid is twice the locations, and less one.
    places.push_back((2 * grid).view({g.images, g.heads, g.queries, g.points, 2}).transpose(1, 2));
    factors.push_back((from * sampled(level))
                          .sum(1)
                          .view({g.images, g.heads, g.queries, g.points})
                          .transpose(1, 2));
  }
  return {at::cat(values, 1), at::stack(places, 3), at::stack(factors, 3)};
}

at::Tensor deformable_attention(const at::Tensor& value, at::IntArrayRef sizes,
                                const at::Tensor& locations, const at::Tensor& weights) {
  const auto type = locations.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return call_deformable_attention(value.to(type), sizes, locations.to(type), weights.to(type))
      .to(value.scalar_type());
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "deformable_attention(Tensor value, int[] sizes, Tensor locations, Tensor weights) -> "
      "Tensor");
  m.def(
      "deformable_attention_backward(Tensor grad, Tensor value, int[] sizes, Tensor locations, "
      "Tensor weights) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("deformable_attention", &composed_deformable_attention);
  m.impl("deformable_attention_backward", &composed_deformable_attention_backward);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) {
  m.impl("deformable_attention", &differentiable_deformable_attention);
}

}  // namespace seg
