#include "segcore/models/blocks/point_sample.hpp"

#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor point_sample(const at::Tensor& x, const at::Tensor& points, bool align_corners,
                        bool nearest) {
  constexpr int64_t kBilinear = 0, kNearest = 1, kZeros = 0;
  // Positions in half precision would be a few pixels wide. The sampler takes one type for both.
  const auto type = at::promote_types(x.scalar_type(), wide_type(points));
  return at::grid_sampler(x.to(type), points.to(type).unsqueeze(2) * 2 - 1,
                          nearest ? kNearest : kBilinear, kZeros, align_corners)
      .squeeze(3);
}

at::Tensor uncertain_points(const at::Tensor& logits,
                            const std::function<at::Tensor(const at::Tensor&)>& uncertainty,
                            const UncertainPointsOptions& o, const RandomSource& random) {
  const int64_t count = logits.size(0);
  const auto share = [&o](double ratio) {
    return static_cast<int64_t>(ratio * static_cast<double>(o.num_points));
  };
  const auto options = logits.options().dtype(wide_type(logits));
  const auto candidates = random({count, share(o.oversample_ratio), 2}, options);
  const int64_t chosen = share(o.importance_sample_ratio);
  const auto best =
      std::get<1>(uncertainty(point_sample(logits, candidates)).topk(chosen, /*dim=*/1));
  auto out = candidates.gather(1, best.unsqueeze(2).expand({-1, -1, 2}));  // [N, chosen, 2]
  if (chosen < o.num_points) {
    out = at::cat({out, random({count, o.num_points - chosen, 2}, options)}, 1);
  }
  return out;
}

}  // namespace seg
