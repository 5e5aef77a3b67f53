#include "segcore/models/blocks/point_sample.hpp"

#include "segcore/ops/random.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor point_sample(const at::Tensor& x, const at::Tensor& points, bool align_corners,
                        bool nearest) {
  constexpr int64_t kBilinear = 0, kNearest = 1, kZeros = 0;
  return at::grid_sampler(x, points.unsqueeze(2).to(x.scalar_type()) * 2 - 1,
                          nearest ? kNearest : kBilinear, kZeros, align_corners)
      .squeeze(3);
}

at::Tensor uncertain_points(const at::Tensor& logits,
                            const std::function<at::Tensor(const at::Tensor&)>& uncertainty,
                            int64_t num_points, double oversample_ratio,
                            double importance_sample_ratio) {
  const int64_t count = logits.size(0);
  const auto candidates = static_cast<int64_t>(static_cast<double>(num_points) * oversample_ratio);
  const auto points = model_rand({count, candidates, 2}, logits.options());
  const auto chosen =
      static_cast<int64_t>(importance_sample_ratio * static_cast<double>(num_points));
  const auto best = std::get<1>(uncertainty(point_sample(logits, points)).topk(chosen, /*dim=*/1));
  auto out = points.gather(1, best.unsqueeze(2).expand({-1, -1, 2}));  // [N, chosen, 2]
  if (chosen < num_points) {
    out = at::cat({out, model_rand({count, num_points - chosen, 2}, logits.options())}, 1);
  }
  return out;
}

}  // namespace seg
