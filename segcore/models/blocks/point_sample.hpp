/// Values of maps at points between their pixels.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

#include "segcore/models/nn/draws_random_numbers.hpp"

namespace seg {

/// Values of a map at points, 0 outside the map.
/// \param x  [N, C, H, W]
/// \param points  [N, P, 2]: x and y in [0, 1] over the map.
/// \param nearest  takes the nearest pixel, instead of interpolating between four.
/// \return [N, C, P], float, or double where one of both is.
at::Tensor point_sample(const at::Tensor& x, const at::Tensor& points, bool align_corners = false,
                        bool nearest = false);

struct UncertainPointsOptions {
  int64_t num_points = 0;
  double oversample_ratio = 3;            ///< candidates for each point chosen by uncertainty
  double importance_sample_ratio = 0.75;  ///< share of the points chosen by uncertainty
};

/// Points where a prediction is least certain, and some at random.
///
/// PointRend, Kirillov et al. 2019, arXiv:1912.08193, section 3.2.
/// \param logits  [N, C, H, W]
/// \param uncertainty  [N, C, P] -> [N, P], larger is less certain.
/// \return [N, num_points, 2], float, or double as the logits.
at::Tensor uncertain_points(const at::Tensor& logits,
                            const std::function<at::Tensor(const at::Tensor&)>& uncertainty,
                            const UncertainPointsOptions& options, const RandomSource& random);

}  // namespace seg
