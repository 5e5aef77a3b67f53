/// The gradient that kernels of a GPU compute for small logits, one thread after the other.
#pragma once
#include <algorithm>

#include "segcore/ops/resized_call.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// \param pixels  see gradient_of_place.
/// \param lanes   that share the pixels of a place.
/// \return [N, C, h, w] of Real.
template <class Real, class Value, class Pixels>
at::Tensor gradient_by_gpu_arithmetic(const Pixels& pixels, const ResizedCall& call, int lanes) {
  constexpr int kClasses = 3;  // does not divide most numbers of classes
  const auto& g = call.geometry;
  auto out = at::zeros(call.logits.sizes(), call.real());
  auto to = out.accessor<Real, 4>();
  LogitPlace place{};
  const auto sum_place = [&] {
    for (int lane = 0; lane < lanes; ++lane) {
      Real sums[kClasses];
      gradient_of_place(pixels, call.logit_data<Value>(), g, place, lane, lanes, sums);
      for (int k = 0; k < place.classes; ++k) {
        to[place.image][place.first_class + k][place.y][place.x] += sums[k];
      }
    }
  };
  for (place.image = 0; place.image < g.images; ++place.image) {
    for (place.first_class = 0; place.first_class < g.classes; place.first_class += kClasses) {
      place.classes = std::min(kClasses, g.classes - place.first_class);
      for (place.y = 0; place.y < g.height; ++place.y) {
        for (place.x = 0; place.x < g.width; ++place.x) sum_place();
      }
    }
  }
  return out;
}

}  // namespace seg
