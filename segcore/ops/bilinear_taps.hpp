/// Between which positions bilinear resizing interpolates.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace seg {

/// For the output positions from `begin` to before `end` the two input positions that it is
/// interpolated from, and the weight of the second. In the precision of the logits, as LibTorch's
/// resizing computes them.
template <class Real>
void fill_taps(int64_t in, int64_t out, int64_t begin, int64_t end, bool align_corners,
               int64_t* first, int64_t* second, Real* share) {
  Real scale;
  if (align_corners) {
    scale = out > 1 ? static_cast<Real>(in - 1) / static_cast<Real>(out - 1) : Real(0);
  } else {
    scale = static_cast<Real>(in) / static_cast<Real>(out);
  }
  for (int64_t i = begin; i < end; ++i) {
    Real position = align_corners
                        ? scale * static_cast<Real>(i)
                        : std::max(scale * (static_cast<Real>(i) + Real(0.5)) - Real(0.5), Real(0));
    const int64_t low = std::min(static_cast<int64_t>(position), in - 1);
    first[i - begin] = low;
    second[i - begin] = std::min(low + 1, in - 1);
    share[i - begin] = std::clamp(position - static_cast<Real>(low), Real(0), Real(1));
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
