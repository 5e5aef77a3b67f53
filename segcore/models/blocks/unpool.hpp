/// Pooling that remembers where its maxima were, and its inverse (SegNet, ENet).
#pragma once
#include "segcore/models/nn/resize.hpp"

namespace seg {

/// The maxima of 2x2 windows; of odd sides the last window is of one row or column.
struct PlacedMaxima {
  torch::Tensor values;  ///< [N, C, ceil(h / 2), ceil(w / 2)]
  torch::Tensor places;  ///< int64, of the same shape: where each was in its plane of h * w
};
/// \param x  [N, C, h, w]
PlacedMaxima pool_with_places(const torch::Tensor& x);

/// Puts each value where the maximum of its window was, and zeros elsewhere.
/// \param x     [N, C', ceil(h / 2), ceil(w / 2)] with at most as many channels as `places` has.
/// \param size  h and w of the map that was pooled.
/// \return [N, C', h, w]
torch::Tensor unpool(const torch::Tensor& x, const torch::Tensor& places, Size2 size);

}  // namespace seg
