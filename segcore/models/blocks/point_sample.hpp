/// Values of maps at points between their pixels.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace seg {

/// \param x  [N, C, H, W]
/// \param points  [N, P, 2]: x and y in [0, 1] over the map.
/// \param nearest  instead of bilinear; outside the map is 0.
/// \return [N, C, P]
at::Tensor point_sample(const at::Tensor& x, const at::Tensor& points, bool align_corners = false,
                        bool nearest = false);

/// Points where a prediction is least certain, and some at random.
///
/// PointRend, Kirillov et al. 2019, arXiv:1912.08193, section 3.2.
/// \param logits  [N, C, H, W]
/// \param uncertainty  [N, C, P] -> [N, P], larger is less certain.
/// \return [N, num_points, 2]
at::Tensor uncertain_points(const at::Tensor& logits,
                            const std::function<at::Tensor(const at::Tensor&)>& uncertainty,
                            int64_t num_points, double oversample_ratio,
                            double importance_sample_ratio);

}  // namespace seg
