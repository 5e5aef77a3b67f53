// Channels-last maps: a row of C values for each pixel, so that every tap is a product of rows.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/conv2d/depthwise_layout.hpp"

namespace seg {
namespace {

/// A place of the kernel and the input that it meets there.
struct AxisTap {
  int64_t kernel, input;
};

std::vector<AxisTap> taps_of(const DepthwiseAxis& axis, int64_t output) {
  std::vector<AxisTap> out;
  for (int64_t k = 0; k < axis.kernel; ++k) {
    const int64_t position = output * axis.stride + k * axis.dilation - axis.padding;
    if (position < 0 || position % axis.spread != 0 || position / axis.spread >= axis.in) continue;
    out.push_back({k, position / axis.spread});
  }
  return out;
}

/// Outputs of an axis that the same taps make, `step` apart: their inputs are `input_step` apart.
struct AxisRun {
  int64_t first, step, count, input_step;
  std::vector<AxisTap> taps;  ///< of the first output
};

std::vector<AxisRun> runs_of(const DepthwiseAxis& axis) {
  const auto same = [](const AxisTap& a, const AxisTap& b) { return a.kernel == b.kernel; };
  std::vector<AxisRun> out;
  for (int64_t phase = 0; phase < std::min(axis.spread, axis.out); ++phase) {
    for (int64_t o = phase; o < axis.out; o += axis.spread) {
      auto taps = taps_of(axis, o);
      const bool goes_on =
          o > phase && std::equal(taps.begin(), taps.end(), out.back().taps.begin(),
                                  out.back().taps.end(), same);
      if (goes_on) {
        ++out.back().count;
      } else {
        out.push_back({o, axis.spread, 1, axis.stride, std::move(taps)});
      }
    }
  }
  return out;
}

/// Of a tap, from the first pixel of a map and from the first of the weights.
struct RowTap {
  int64_t input, weight;
};

/// The taps of a run of columns in an output row.
void join_taps(const std::vector<AxisTap>& rows, const AxisRun& run, const DepthwiseShape& shape,
               std::vector<RowTap>& out) {
  out.clear();
  for (const AxisTap& row : rows) {
    for (const AxisTap& column : run.taps) {
      out.push_back({(row.input * shape.w.in + column.input) * shape.channels,
                     (row.kernel * shape.w.kernel + column.kernel) * shape.channels});
    }
  }
}

struct RowRunArguments {
  const float* x;
  const RowTap* taps;
  int64_t tap_count, x_step;
  const float *weights, *bias;  ///< the second may be null
  float* y;
  int64_t y_step, pixels, channels;
};

template <int kPixels, int kVectors>
SEG_VECTOR_BODY void correlate_pixels(const RowRunArguments& a, int64_t pixel, int64_t channel) {
  vec::F8 sums[kPixels][kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const vec::F8 bias = a.bias ? vec::load(a.bias + channel + v * vec::kLanes) : vec::F8{};
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) sums[p][v] = bias;
  }
  const float* x = a.x + pixel * a.x_step + channel;
  for (int64_t t = 0; t < a.tap_count; ++t) {
    const float* from = x + a.taps[t].input;
    const float* weights = a.weights + a.taps[t].weight + channel;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const vec::F8 weight = vec::load(weights + v * vec::kLanes);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        sums[p][v] += weight * vec::load(from + p * a.x_step + v * vec::kLanes);
      }
    }
  }
  float* y = a.y + pixel * a.y_step + channel;
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      vec::store(y + p * a.y_step + v * vec::kLanes, sums[p][v]);
    }
  }
}

template <int kPixels>
SEG_VECTOR_BODY void correlate_rows_of_channels(const RowRunArguments& a, int64_t pixel) {
  int64_t channel = 0;
  for (; channel + 2 * vec::kLanes <= a.channels; channel += 2 * vec::kLanes) {
    correlate_pixels<kPixels, 2>(a, pixel, channel);
  }
  for (; channel + vec::kLanes <= a.channels; channel += vec::kLanes) {
    correlate_pixels<kPixels, 1>(a, pixel, channel);
  }
  for (; channel < a.channels; ++channel) {
    for (int64_t p = pixel; p < pixel + kPixels; ++p) {
      float sum = a.bias ? a.bias[channel] : 0.0F;
      for (int64_t t = 0; t < a.tap_count; ++t) {
        sum +=
            a.weights[a.taps[t].weight + channel] * a.x[p * a.x_step + a.taps[t].input + channel];
      }
      a.y[p * a.y_step + channel] = sum;
    }
  }
}

SEG_VECTOR_BODY void correlate_run_body(const RowRunArguments& a) {
  constexpr int kPixels = 4;
  int64_t pixel = 0;
  for (; pixel + kPixels <= a.pixels; pixel += kPixels) {
    correlate_rows_of_channels<kPixels>(a, pixel);
  }
  for (; pixel < a.pixels; ++pixel) correlate_rows_of_channels<1>(a, pixel);
}
SEG_VECTOR_KERNEL(correlate_run, correlate_run_body, RowRunArguments)

struct RunProductArguments {
  const float* x;
  const RowTap* taps;
  int64_t tap_count, x_step;
  const float* gradient;
  int64_t gradient_step, pixels, channels;
  float *products, *sums;  ///< the second may be null
};

template <int kPixels>
SEG_VECTOR_BODY void add_pixel_products(const RunProductArguments& a, int64_t pixel) {
  const float* gradient = a.gradient + pixel * a.gradient_step;
  const float* x = a.x + pixel * a.x_step;
  int64_t channel = 0;
  for (; channel + vec::kLanes <= a.channels; channel += vec::kLanes) {
    vec::F8 by[kPixels];
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) by[p] = vec::load(gradient + p * a.gradient_step + channel);
    if (a.sums) {
      vec::F8 sum = vec::load(a.sums + channel);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) sum += by[p];
      vec::store(a.sums + channel, sum);
    }
    for (int64_t t = 0; t < a.tap_count; ++t) {
      float* products = a.products + a.taps[t].weight + channel;
      const float* from = x + a.taps[t].input + channel;
      vec::F8 sum = vec::load(products);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) sum += by[p] * vec::load(from + p * a.x_step);
      vec::store(products, sum);
    }
  }
  for (; channel < a.channels; ++channel) {
    for (int p = 0; p < kPixels; ++p) {
      const float by = gradient[p * a.gradient_step + channel];
      if (a.sums) a.sums[channel] += by;
      for (int64_t t = 0; t < a.tap_count; ++t) {
        a.products[a.taps[t].weight + channel] += by * x[p * a.x_step + a.taps[t].input + channel];
      }
    }
  }
}

SEG_VECTOR_BODY void run_products_body(const RunProductArguments& a) {
  constexpr int kPixels = 4;
  int64_t pixel = 0;
  for (; pixel + kPixels <= a.pixels; pixel += kPixels) add_pixel_products<kPixels>(a, pixel);
  for (; pixel < a.pixels; ++pixel) add_pixel_products<1>(a, pixel);
}
SEG_VECTOR_KERNEL(run_products, run_products_body, RunProductArguments)

/// Channels that are worked on at a time: their weights stay in the first level cache.
int64_t channel_block(const DepthwiseShape& shape) {
  constexpr int64_t kFloats = 2048;
  return std::max<int64_t>(2 * vec::kLanes,
                           kFloats / shape.taps() / (2 * vec::kLanes) * (2 * vec::kLanes));
}

/// Calls use(taps, run of columns, first input of the image, first output of the row, first
/// channel, channels) for each run of the output rows from `begin` to before `end`, counted over
/// all images, for a block of channels after the other.
template <class Use>
void for_runs(const DepthwiseShape& shape, const std::vector<AxisRun>& runs, int64_t begin,
              int64_t end, const Use& use) {
  std::vector<RowTap> taps;
  const int64_t block = channel_block(shape);
  for (int64_t channel = 0; channel < shape.channels; channel += block) {
    const int64_t channels = std::min(block, shape.channels - channel);
    for (int64_t row = begin; row < end; ++row) {
      const auto rows = taps_of(shape.h, row % shape.h.out);
      const int64_t image = row / shape.h.out * shape.h.in * shape.w.in * shape.channels;
      for (const AxisRun& run : runs) {
        join_taps(rows, run, shape, taps);
        use(taps, run, image, row * shape.w.out * shape.channels, channel, channels);
      }
    }
  }
}

}  // namespace

void correlate_rows(const DepthwiseShape& shape, const float* x, const float* weights,
                    const float* bias, float* y) {
  const auto runs = runs_of(shape.w);
  const int64_t channels = shape.channels;
  at::parallel_for(
      0, shape.images * shape.h.out, shape.grain(shape.w.out * channels),
      [&](int64_t begin, int64_t end) {
        for_runs(shape, runs, begin, end,
                 [&](const std::vector<RowTap>& taps, const AxisRun& run, int64_t image,
                     int64_t row, int64_t channel, int64_t count) {
                   correlate_run({x + image + channel, taps.data(),
                                  static_cast<int64_t>(taps.size()), run.input_step * channels,
                                  weights + channel, bias ? bias + channel : nullptr,
                                  y + row + run.first * channels + channel, run.step * channels,
                                  run.count, count});
                 });
      });
}

void depthwise_weight_gradient_rows(const DepthwiseShape& shape, const float* x,
                                    const float* gradient, float* by_weight, float* by_bias) {
  // Blocks of rows, whose sums are added up at the end: so many, of no fewer pixels.
  constexpr int64_t kMostBlocks = 32, kLeastPixels = 128;
  const auto runs = runs_of(shape.w);
  const int64_t channels = shape.channels, sums = (shape.taps() + 1) * channels;
  const int64_t rows = shape.images * shape.h.out;
  const int64_t block = std::max((rows + kMostBlocks - 1) / kMostBlocks,
                                 (kLeastPixels + shape.w.out - 1) / shape.w.out);
  const int64_t blocks = (rows + block - 1) / block;
  std::vector<float> parts(static_cast<size_t>(blocks * sums));
  at::parallel_for(
      0, blocks, shape.grain(block * shape.w.out * channels), [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          float* products = parts.data() + b * sums;
          float* of_bias = by_bias ? products + shape.taps() * channels : nullptr;
          for_runs(shape, runs, b * block, std::min(rows, (b + 1) * block),
                   [&](const std::vector<RowTap>& taps, const AxisRun& run, int64_t image,
                       int64_t row, int64_t channel, int64_t count) {
                     run_products({x + image + channel, taps.data(),
                                   static_cast<int64_t>(taps.size()), run.input_step * channels,
                                   gradient + row + run.first * channels + channel,
                                   run.step * channels, run.count, count, products + channel,
                                   of_bias ? of_bias + channel : nullptr});
                   });
        }
      });
  const int64_t of_weight = shape.taps() * channels;
  at::parallel_for(0, by_bias ? sums : of_weight, 1 << 12, [&](int64_t begin, int64_t end) {
    std::vector<double> total(static_cast<size_t>(end - begin));
    for (int64_t b = 0; b < blocks; ++b) {
      const float* part = parts.data() + b * sums + begin;
      for (size_t i = 0; i < total.size(); ++i) total[i] += part[i];
    }
    for (int64_t i = begin; i < end; ++i) {
      (i < of_weight ? by_weight[i] : by_bias[i - of_weight]) =
          static_cast<float>(total[static_cast<size_t>(i - begin)]);
    }
  });
}

}  // namespace seg
