// [N, C, ...] with the planes of an image one after the other: a channel after the other, each with
// all its images, while they are in the cache.
#include <ATen/Parallel.h>

#include <algorithm>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_layout.hpp"

namespace seg {
namespace {

/// Values of a channel in one image; a few of them at a time stay in the first cache.
constexpr int64_t kChunk = 2048;

/// One channel: `images` runs of `size` values, `stride` apart.
struct ChannelRuns {
  int64_t images, size, stride;
};

struct StatisticsArguments {
  const float* x;
  ChannelRuns runs;
  double *mean, *squares;  ///< of deviations from the mean, summed
};

SEG_VECTOR_BODY double sum_of_chunk(const float* x, int64_t size) {
  vec::D8 sums;
  int64_t i = 0;
  for (; i + vec::kLanes <= size; i += vec::kLanes) sums = sums + vec::wide(vec::load(x + i));
  double out = vec::sum_of(sums);
  for (; i < size; ++i) out += x[i];
  return out;
}

SEG_VECTOR_BODY double squares_of_chunk(const float* x, int64_t size, double mean) {
  vec::D8 sums;
  const vec::D8 means = vec::all(mean);
  int64_t i = 0;
  for (; i + vec::kLanes <= size; i += vec::kLanes) {
    const vec::D8 apart = vec::wide(vec::load(x + i)) - means;
    sums = sums + apart * apart;
  }
  double out = vec::sum_of(sums);
  for (; i < size; ++i) out += (x[i] - mean) * (x[i] - mean);
  return out;
}

/// Chunks in two passes each, joined as Chan et al. 1979 do, so that nothing cancels.
SEG_VECTOR_BODY void statistics_body(const StatisticsArguments& a) {
  double mean = 0, squares = 0;
  int64_t count = 0;
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const float* x = a.x + n * a.runs.stride;
    for (int64_t begin = 0; begin < a.runs.size; begin += kChunk) {
      const int64_t size = std::min(kChunk, a.runs.size - begin);
      const double chunk = sum_of_chunk(x + begin, size) / static_cast<double>(size);
      const double apart = chunk - mean;
      const auto share = static_cast<double>(size) / static_cast<double>(count + size);
      squares += squares_of_chunk(x + begin, size, chunk) +
                 apart * apart * static_cast<double>(count) * share;
      mean += apart * share;
      count += size;
    }
  }
  *a.mean = mean;
  *a.squares = squares;
}
SEG_VECTOR_KERNEL(channel_statistics, statistics_body, StatisticsArguments)

struct ApplyArguments {
  const float *x, *residual;  ///< the second may be null
  float* y;
  ChannelRuns runs;
  NormScale by;
};

SEG_VECTOR_BODY void apply_body(const ApplyArguments& a) {
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const float* x = a.x + n * a.runs.stride;
    const float* residual = a.residual ? a.residual + n * a.runs.stride : nullptr;
    float* y = a.y + n * a.runs.stride;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      vec::F8 value = vec::load(x + i) * a.by.scale + a.by.shift;
      if (residual) value += vec::load(residual + i);
      // Not a number stays one, as in LibTorch.
      vec::store(y + i, value < 0.0F ? vec::F8{} : value);
    }
    for (; i < a.runs.size; ++i) {
      float value = x[i] * a.by.scale + a.by.shift;
      if (residual) value += residual[i];
      y[i] = value < 0.0F ? 0.0F : value;
    }
  }
}
SEG_VECTOR_KERNEL(apply_to_channel, apply_body, ApplyArguments)

struct SumsArguments {
  const float *gradient, *x, *y;
  ChannelRuns runs;
  double mean;
  double *sum, *product;  ///< of gradients that pass the ReLU; of them times x - mean
};

SEG_VECTOR_BODY void sums_body(const SumsArguments& a) {
  vec::D8 sums, products;
  const vec::D8 means = vec::all(a.mean);
  double sum = 0, product = 0;
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const int64_t first = n * a.runs.stride;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      const vec::F8 through = vec::load(y + i) <= 0.0F ? vec::F8{} : vec::load(g + i);
      sums = sums + vec::wide(through);
      products = products + vec::wide(through) * (vec::wide(vec::load(x + i)) - means);
    }
    for (; i < a.runs.size; ++i) {
      const double through = y[i] <= 0.0F ? 0.0 : g[i];
      sum += through;
      product += through * (x[i] - a.mean);
    }
  }
  *a.sum = sum + vec::sum_of(sums);
  *a.product = product + vec::sum_of(products);
}
SEG_VECTOR_KERNEL(channel_sums, sums_body, SumsArguments)

struct GradientArguments {
  const float *gradient, *x, *y;
  float *by_x, *by_residual;  ///< the second may be null
  ChannelRuns runs;
  NormSlopes by;
};

SEG_VECTOR_BODY void gradient_body(const GradientArguments& a) {
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const int64_t first = n * a.runs.stride;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    float* by_x = a.by_x + first;
    float* by_residual = a.by_residual ? a.by_residual + first : nullptr;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      const vec::F8 through = vec::load(y + i) <= 0.0F ? vec::F8{} : vec::load(g + i);
      if (by_residual) vec::store(by_residual + i, through);
      const vec::F8 centred = vec::load(x + i) - a.by.mean;
      vec::store(by_x + i, through * a.by.scale - centred * a.by.slope - a.by.offset);
    }
    for (; i < a.runs.size; ++i) {
      const float through = y[i] <= 0.0F ? 0.0F : g[i];
      if (by_residual) by_residual[i] = through;
      by_x[i] = through * a.by.scale - (x[i] - a.by.mean) * a.by.slope - a.by.offset;
    }
  }
}
SEG_VECTOR_KERNEL(channel_gradient, gradient_body, GradientArguments)

class PlaneLayout final : public BatchNormLayout {
 public:
  explicit PlaneLayout(const at::Tensor& x) : channels_(x.size(1)) {
    const int64_t size = x.numel() / (x.size(0) * channels_);
    runs_ = {.images = x.size(0), .size = size, .stride = channels_ * size};
  }

  void moments(const float* x, double* means, double* squares) const override {
    for_channels([&](int64_t c, int64_t first) {
      channel_statistics({x + first, runs_, means + c, squares + c});
    });
  }

  void normalise(const float* x, const float* residual, float* y, double* means, double* squares,
                 const ScaleOf& scale_of) const override {
    for_channels([&](int64_t c, int64_t first) {
      if (squares) channel_statistics({x + first, runs_, means + c, squares + c});
      apply_to_channel(
          {x + first, residual ? residual + first : nullptr, y + first, runs_, scale_of(c)});
    });
  }

  void sums(const BatchNormMaps& maps, double* sums, double* products) const override {
    for_channels(
        [&](int64_t c, int64_t first) { channel_sums(arguments(maps, c, first, sums, products)); });
  }

  void gradients(const BatchNormMaps& maps, double* sums, double* products, bool sum_first,
                 const SlopesOf& slopes_of, float* by_x, float* by_residual) const override {
    for_channels([&](int64_t c, int64_t first) {
      if (sum_first) channel_sums(arguments(maps, c, first, sums, products));
      channel_gradient({maps.gradient + first, maps.x + first, maps.y + first, by_x + first,
                        by_residual ? by_residual + first : nullptr, runs_, slopes_of(c)});
    });
  }

 private:
  SumsArguments arguments(const BatchNormMaps& maps, int64_t c, int64_t first, double* sums,
                          double* products) const {
    return {maps.gradient + first, maps.x + first, maps.y + first, runs_,
            maps.means[c],         sums + c,       products + c};
  }

  /// Calls `use` with each channel and where its runs begin, in several threads.
  template <class Use>
  void for_channels(const Use& use) const {
    const int64_t values = std::max<int64_t>(1, runs_.images * runs_.size);
    const int64_t grain = std::max<int64_t>(1, at::internal::GRAIN_SIZE / values);
    at::parallel_for(0, channels_, grain, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) use(c, c * runs_.size);
    });
  }

  int64_t channels_;
  ChannelRuns runs_{};
};

}  // namespace

std::unique_ptr<BatchNormLayout> batch_norm_planes(const at::Tensor& x) {
  return std::make_unique<PlaneLayout>(x);
}

}  // namespace seg
