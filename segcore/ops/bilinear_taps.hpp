/// Between which positions bilinear resizing interpolates.
#pragma once
#include <cstdint>
#include <vector>

#include "segcore/ops/bilinear_side.hpp"

namespace seg {

/// For the output positions from `begin` to before `end` the two input positions that it is
/// interpolated from, and the weight of the second.
template <class Real>
void fill_taps(int64_t in, int64_t out, int64_t begin, int64_t end, bool align_corners,
               int64_t* first, int64_t* second, Real* share) {
  const BilinearSide<Real> side(static_cast<int>(in), static_cast<int>(out), align_corners);
  for (int64_t i = begin; i < end; ++i) {
    const BilinearTap<Real> tap = side.tap(static_cast<int>(i));
    first[i - begin] = tap.low;
    second[i - begin] = tap.high;
    share[i - begin] = tap.share;
  }
}

/// The same of all positions of one side.
struct ResizeTaps {
  std::vector<int64_t> first, second;
  std::vector<float> share;  ///< of the second

  ResizeTaps(int64_t in, int64_t out, bool align_corners)
      : first(static_cast<size_t>(out)), second(first.size()), share(first.size()) {
    fill_taps(in, out, 0, out, align_corners, first.data(), second.data(), share.data());
  }
};

}  // namespace seg
