// Contiguous maps: a plane for each channel, of which a band at a time is laid out with its
// padding, so that every tap of the kernel reads whole vectors of neighbouring columns.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/conv2d/depthwise_layout.hpp"

namespace seg {
namespace {

struct EverySecondArguments {
  const float* from;
  float* to;
  int64_t count;
};

SEG_VECTOR_BODY void copy_every_second_body(const EverySecondArguments& a) {
  int64_t i = 0;
  for (; i + vec::kLanes < a.count; i += vec::kLanes) {
    const float* from = a.from + 2 * i;
    vec::store(a.to + i, vec::evens_of(vec::load(from), vec::load(from + vec::kLanes)));
  }
  for (; i < a.count; ++i) a.to[i] = a.from[2 * i];
}
SEG_VECTOR_KERNEL(copy_every_second, copy_every_second_body, EverySecondArguments)

/// Some rows of a plane with zeros around them. Columns that a stride leaves between two outputs
/// stand in segments of their own: neighbours are what neighbouring outputs read.
class PlaneBand {
 public:
  PlaneBand(const DepthwiseAxis& h, const DepthwiseAxis& w) : h_(h), w_(w) {
    constexpr int64_t kMostFloats = 1 << 15;  // half of a usual second level cache
    columns_ = w.extent(w.out);
    segment_ = (columns_ + w.stride - 1) / w.stride + vec::kLanes;  // vectors reach beyond
    pitch_ = segment_ * w.stride;
    const int64_t fitting = (kMostFloats / pitch_ - (h.kernel - 1) * h.dilation - 1) / h.stride + 1;
    outputs_ = std::clamp<int64_t>(fitting, 1, h.out);
    values_.assign(static_cast<size_t>(pitch_ * h.extent(outputs_)), 0.0F);
    for (int64_t kh = 0; kh < h.kernel; ++kh) {
      for (int64_t kw = 0; kw < w.kernel; ++kw) {
        offsets_.push_back(kh * h.dilation * pitch_ + place(kw * w.dilation));
      }
    }
  }

  /// Output rows that are made of one band.
  int64_t outputs() const { return outputs_; }
  const float* values() const { return values_.data(); }
  /// From one output row to the next.
  int64_t row_step() const { return pitch_ * h_.stride; }
  /// Of each tap from the place of its output.
  const std::vector<int64_t>& offsets() const { return offsets_; }

  /// Takes the rows of which `outputs` rows from `first` are made.
  void fill(const float* plane, int64_t first, int64_t outputs) {
    for (int64_t row = 0; row < h_.extent(outputs); ++row) {
      const int64_t position = first * h_.stride + row - h_.padding;
      float* to = values_.data() + row * pitch_;
      if (position < 0 || position % h_.spread != 0 || position / h_.spread >= h_.in) {
        std::memset(to, 0, static_cast<size_t>(pitch_) * sizeof(float));
      } else {
        copy_row(plane + position / h_.spread * w_.in, to);
      }
    }
  }

 private:
  int64_t place(int64_t column) const { return column % w_.stride * segment_ + column / w_.stride; }

  /// Columns of the padding stay zero.
  void copy_row(const float* from, float* to) const {
    const int64_t room = columns_ - w_.padding;
    const int64_t count = std::clamp<int64_t>((room + w_.spread - 1) / w_.spread, 0, w_.in);
    if (w_.stride == 1 && w_.spread == 1) {
      std::memcpy(to + w_.padding, from, static_cast<size_t>(count) * sizeof(float));
    } else if (w_.stride == 1) {
      for (int64_t i = 0; i < count; ++i) to[w_.padding + i * w_.spread] = from[i];
    } else {
      for (int64_t phase = 0; phase < w_.stride; ++phase) {
        float* segment = to + place(w_.padding + phase);
        const float* read = from + phase;
        const int64_t columns = (count - phase + w_.stride - 1) / w_.stride;
        if (w_.stride == 2) {
          copy_every_second({read, segment, columns});
        } else {
          for (int64_t i = 0; i < columns; ++i) segment[i] = read[i * w_.stride];
        }
      }
    }
  }

  DepthwiseAxis h_, w_;
  int64_t columns_ = 0, segment_ = 0, pitch_ = 0, outputs_ = 0;
  std::vector<float> values_;
  std::vector<int64_t> offsets_;
};

struct CorrelationArguments {
  const float* band;
  int64_t row_step;
  const int64_t* offsets;
  const float* weights;
  int64_t taps;
  float bias;
  float* y;
  int64_t rows, columns;
};

/// Eight sums at a time keep both multipliers of a core busy.
template <int kRows, int kVectors>
SEG_VECTOR_BODY void correlate_block(const CorrelationArguments& a, int64_t row, int64_t column) {
  vec::F8 sums[kRows][kVectors];
  for (auto& of_row : sums) {
    for (auto& sum : of_row) sum = vec::all(a.bias);
  }
  const float* from = a.band + row * a.row_step + column;
  for (int64_t t = 0; t < a.taps; ++t) {
    const vec::F8 weight = vec::all(a.weights[t]);
    const float* x = from + a.offsets[t];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] += weight * vec::load(x + r * a.row_step + v * vec::kLanes);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = column + v * vec::kLanes, left = a.columns - at;
      float* y = a.y + (row + r) * a.columns + at;
      if (left >= vec::kLanes) {
        vec::store(y, sums[r][v]);
      } else if (left > 0) {
        std::memcpy(y, &sums[r][v], static_cast<size_t>(left) * sizeof(float));
      }
    }
  }
}

template <int kRows, int kVectors>
SEG_VECTOR_BODY void correlate_strip(const CorrelationArguments& a, int64_t column) {
  int64_t row = 0;
  for (; row + kRows <= a.rows; row += kRows) correlate_block<kRows, kVectors>(a, row, column);
  for (; row < a.rows; ++row) correlate_block<1, kVectors>(a, row, column);
}

SEG_VECTOR_BODY void correlate_body(const CorrelationArguments& a) {
  int64_t column = 0;
  for (; column + 56 < a.columns; column += 64) correlate_strip<1, 8>(a, column);
  for (; column + 24 < a.columns; column += 32) correlate_strip<2, 4>(a, column);
  for (; column + 8 < a.columns; column += 16) correlate_strip<4, 2>(a, column);
  for (; column < a.columns; column += 8) correlate_strip<8, 1>(a, column);
}
SEG_VECTOR_KERNEL(correlate_band, correlate_body, CorrelationArguments)

struct ProductArguments {
  const float* band;
  int64_t row_step;
  const int64_t* offsets;
  int64_t taps;
  const float* gradient;
  int64_t rows, columns;
  double *products, *sum;  ///< the second may be null
};

/// The gradient's columns from `column`, and zeros beyond the last.
SEG_VECTOR_BODY vec::F8 gradient_at(const float* row, int64_t column, int64_t columns) {
  if (column + vec::kLanes <= columns) return vec::load(row + column);
  float rest[vec::kLanes] = {};
  std::memcpy(rest, row + column, static_cast<size_t>(columns - column) * sizeof(float));
  return vec::load(rest);
}

template <int kTaps>
SEG_VECTOR_BODY void add_products(const ProductArguments& a, int64_t first) {
  vec::F8 sums[kTaps] = {};
  const float* taps[kTaps];
  for (int t = 0; t < kTaps; ++t) taps[t] = a.band + a.offsets[first + t];
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; c += vec::kLanes) {
      const vec::F8 gradient = gradient_at(a.gradient + r * a.columns, c, a.columns);
      const int64_t at = r * a.row_step + c;
#pragma GCC unroll 9
      for (int t = 0; t < kTaps; ++t) sums[t] += gradient * vec::load(taps[t] + at);
    }
  }
  for (int t = 0; t < kTaps; ++t) {
    a.products[first + t] += static_cast<double>(vec::sum_of(sums[t]));
  }
}

SEG_VECTOR_BODY void products_body(const ProductArguments& a) {
  constexpr int64_t kMostTaps = 9;  // with the gradient and a load that is what registers hold
  const int64_t groups = (a.taps + kMostTaps - 1) / kMostTaps;
  for (int64_t g = 0; g < groups; ++g) {
    int64_t first = a.taps * g / groups;
    const int64_t end = a.taps * (g + 1) / groups;
    switch (end - first) {
      case 9:
        add_products<9>(a, first);
        break;
      case 8:
        add_products<8>(a, first);
        break;
      case 7:
        add_products<7>(a, first);
        break;
      case 6:
        add_products<6>(a, first);
        break;
      case 5:
        add_products<5>(a, first);
        break;
      default:
        for (; first < end; ++first) add_products<1>(a, first);
    }
  }
  if (!a.sum) return;
  vec::F8 sum{};
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; c += vec::kLanes) {
      sum += gradient_at(a.gradient + r * a.columns, c, a.columns);
    }
  }
  *a.sum += static_cast<double>(vec::sum_of(sum));
}
SEG_VECTOR_KERNEL(band_products, products_body, ProductArguments)

/// Calls use(first output row, rows) for each band of a plane, filled.
template <class Use>
void for_bands(PlaneBand& band, const DepthwiseShape& shape, const float* plane, const Use& use) {
  for (int64_t first = 0; first < shape.h.out; first += band.outputs()) {
    const int64_t rows = std::min(band.outputs(), shape.h.out - first);
    band.fill(plane, first, rows);
    use(first, rows);
  }
}

}  // namespace

void correlate_planes(const DepthwiseShape& shape, const float* x, const float* weights,
                      const float* bias, float* y) {
  const int64_t inputs = shape.h.in * shape.w.in, outputs = shape.h.out * shape.w.out;
  const int64_t planes = shape.images * shape.channels;
  at::parallel_for(0, planes, shape.grain(outputs), [&](int64_t begin, int64_t end) {
    PlaneBand band(shape.h, shape.w);
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t channel = plane % shape.channels;
      for_bands(band, shape, x + plane * inputs, [&](int64_t first, int64_t rows) {
        correlate_band({band.values(), band.row_step(), band.offsets().data(),
                        weights + channel * shape.taps(), shape.taps(), bias ? bias[channel] : 0.0F,
                        y + plane * outputs + first * shape.w.out, rows, shape.w.out});
      });
    }
  });
}

void depthwise_weight_gradient_planes(const DepthwiseShape& shape, const float* x,
                                      const float* gradient, float* by_weight, float* by_bias) {
  const int64_t inputs = shape.h.in * shape.w.in, outputs = shape.h.out * shape.w.out;
  at::parallel_for(
      0, shape.channels, shape.grain(shape.images * outputs), [&](int64_t begin, int64_t end) {
        PlaneBand band(shape.h, shape.w);
        std::vector<double> products(static_cast<size_t>(shape.taps()));
        for (int64_t channel = begin; channel < end; ++channel) {
          std::fill(products.begin(), products.end(), 0.0);
          double sum = 0;
          for (int64_t n = 0; n < shape.images; ++n) {
            const int64_t plane = n * shape.channels + channel;
            for_bands(band, shape, x + plane * inputs, [&](int64_t first, int64_t rows) {
              band_products({band.values(), band.row_step(), band.offsets().data(), shape.taps(),
                             gradient + plane * outputs + first * shape.w.out, rows, shape.w.out,
                             products.data(), by_bias ? &sum : nullptr});
            });
          }
          std::copy(products.begin(), products.end(), by_weight + channel * shape.taps());
          if (by_bias) by_bias[channel] = static_cast<float>(sum);
        }
      });
}

}  // namespace seg
