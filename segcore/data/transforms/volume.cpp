#include "segcore/data/transforms/volume.hpp"

#include <cmath>

#include "registry/error.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

void require_volume(const Sample& sample, std::string_view transform) {
  if (sample.volume.image.defined()) return;
  throw DataError(text(sample_name(sample), ": ", transform,
                       " has no volume to work on: put a LoadBiomedicalImageFromFile before it"));
}

at::Tensor gaussian_filter(const at::Tensor& volume, const std::array<double, 3>& sigma) {
  at::Tensor out = volume;
  for (int64_t axis = 0; axis < 3; ++axis) {
    const double s = sigma[static_cast<size_t>(axis)];
    if (s <= 1e-15) continue;
    const auto radius = static_cast<int64_t>(4.0 * s + 0.5);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t k = -radius; k <= radius; ++k) {
      weights.push_back(std::exp(-0.5 / (s * s) * static_cast<double>(k * k)));
      sum += weights.back();
    }
    const int64_t size = out.size(axis), period = 2 * size;
    std::vector<int64_t> from;  // d c b a | a b c d | d c b a
    for (int64_t i = -radius; i < size + radius; ++i) {
      const int64_t at = (i % period + period) % period;
      from.push_back(at < size ? at : period - 1 - at);
    }
    const at::Tensor padded = out.to(torch::kDouble).index_select(axis, torch::tensor(from));
    at::Tensor filtered = torch::zeros(out.sizes(), torch::kDouble);
    for (int64_t k = 0; k <= 2 * radius; ++k) {
      filtered.add_(padded.narrow(axis, k, size), weights[static_cast<size_t>(k)] / sum);
    }
    out = filtered.to(volume.scalar_type());  // rounded after each axis
  }
  return out;
}

}  // namespace seg
