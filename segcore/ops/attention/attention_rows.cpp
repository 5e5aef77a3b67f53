#include "segcore/ops/attention/attention_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/product_tile.hpp"

namespace seg {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

template <class Vector>
constexpr int64_t lanes_of() {
  return sizeof(Vector) / sizeof(float);
}

SEG_VECTOR_BODY float sum_lanes(const vec::F4& x) { return (x[0] + x[2]) + (x[1] + x[3]); }
SEG_VECTOR_BODY float sum_lanes(const vec::F8& x) {
  return sum_lanes(__builtin_shufflevector(x, x, 0, 1, 2, 3) +
                   __builtin_shufflevector(x, x, 4, 5, 6, 7));
}
SEG_VECTOR_BODY float sum_lanes(const vec::F16& x) {
  return sum_lanes(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
}

SEG_VECTOR_BODY float largest_lane(const vec::F4& x) {
  return std::max(std::max(x[0], x[2]), std::max(x[1], x[3]));
}
SEG_VECTOR_BODY float largest_lane(const vec::F8& x) {
  return largest_lane(vec::max(__builtin_shufflevector(x, x, 0, 1, 2, 3),
                               __builtin_shufflevector(x, x, 4, 5, 6, 7)));
}
SEG_VECTOR_BODY float largest_lane(const vec::F16& x) {
  return largest_lane(vec::max(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7),
                               __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15)));
}

/// Calls visit(column, bias) for the vectors of a row, where bias is -inf beyond its end.
template <class Vector, class Visit>
SEG_VECTOR_BODY void visit_row(const ScoreBlock& block, int64_t row, const Visit& visit) {
  constexpr int64_t kWide = lanes_of<Vector>();
  const float* bias = block.bias ? block.bias + row * block.bias_step : nullptr;
  const int64_t whole = block.columns / kWide * kWide;
  if (bias) {
    for (int64_t c = 0; c < whole; c += kWide) visit(c, vec::load_as<Vector>(bias + c));
  } else {
    for (int64_t c = 0; c < whole; c += kWide) visit(c, Vector{});
  }
  if (whole == block.columns) return;
  float rest[kWide];
  std::fill_n(rest, kWide, kMinusInfinity);
  for (int64_t c = whole; c < block.columns; ++c) rest[c - whole] = bias ? bias[c] : 0.0F;
  visit(whole, vec::load_as<Vector>(rest));
}

template <class Vector>
SEG_VECTOR_BODY void exponentiate_row(const SoftmaxBlock& a, int64_t row) {
  float* scores = a.block.scores + row * a.block.step;
  Vector most = Vector{} + a.state.most[row];
  visit_row<Vector>(a.block, row, [&](int64_t c, const Vector& bias) SEG_INLINE_LAMBDA {
    const Vector score = vec::load_as<Vector>(scores + c) * a.block.scale + bias;
    most = vec::max(score, most);
    vec::store_as(scores + c, score);
  });
  const float before = a.state.most[row], after = largest_lane(most);
  const float from = after == kMinusInfinity ? 0 : after;  // all keys are masked
  Vector sum{};
  for (int64_t c = 0; c < a.block.columns; c += lanes_of<Vector>()) {
    const Vector e = vec::exp_of_negative(vec::load_as<Vector>(scores + c) - from);
    vec::store_as(scores + c, e);
    sum += e;
  }
  const float factor = before == after ? 1.0F : std::exp(before - from);
  a.state.most[row] = after;
  a.state.sum[row] = a.state.sum[row] * factor + sum_lanes(sum);
  a.state.factor[row] = factor;
}

template <class Vector>
SEG_VECTOR_BODY void exponentiate_body(const SoftmaxBlock& a, vec::Width<Vector> /*width*/) {
  for (int64_t row = 0; row < a.block.rows; ++row) exponentiate_row<Vector>(a, row);
}

template <class Vector>
SEG_VECTOR_BODY void differentiate_row(const SlopeBlock& a, int64_t row) {
  constexpr int64_t kWide = lanes_of<Vector>();
  const ScoreBlock& block = a.block;
  float* scores = block.scores + row * block.step;
  float* slopes = a.slopes + row * block.step;
  float* by_bias = a.by_bias ? a.by_bias + row * a.by_bias_step : nullptr;
  const float log_sum = a.log_sums[row] == kMinusInfinity ? 0 : a.log_sums[row];
  const float mean = a.mean_slopes[row];
  visit_row<Vector>(block, row, [&](int64_t c, const Vector& bias) SEG_INLINE_LAMBDA {
    const Vector score = vec::load_as<Vector>(scores + c) * block.scale + bias;
    const Vector p = vec::exp_of_negative(score - log_sum);
    const Vector slope = p * (vec::load_as<Vector>(slopes + c) - mean);
    vec::store_as(scores + c, p);
    vec::store_as(slopes + c, slope * block.scale);
    if (!by_bias) return;
    if (c + kWide <= block.columns) {
      vec::store_as(by_bias + c, a.add ? vec::load_as<Vector>(by_bias + c) + slope : slope);
    } else {
      float rest[kWide];
      vec::store_as(rest, slope);
      for (int64_t i = c; i < block.columns; ++i) {
        by_bias[i] = a.add ? by_bias[i] + rest[i - c] : rest[i - c];
      }
    }
  });
}

template <class Vector>
SEG_VECTOR_BODY void differentiate_body(const SlopeBlock& a, vec::Width<Vector> /*width*/) {
  for (int64_t row = 0; row < a.block.rows; ++row) differentiate_row<Vector>(a, row);
}

template <class Vector>
SEG_VECTOR_BODY void scale_rows_body(const ScaledRows& a, vec::Width<Vector> /*width*/) {
  for (int64_t row = 0; row < a.rows; ++row) {
    float* x = a.x + row * a.step;
    for (int64_t c = 0; c < a.columns; c += lanes_of<Vector>()) {
      vec::store_as(x + c, vec::load_as<Vector>(x + c) * a.factors[row]);
    }
  }
}

template <class Vector>
SEG_VECTOR_BODY void multiply_rows_body(const RowProducts& a, vec::Width<Vector> /*width*/) {
  for (int64_t row = 0; row < a.rows; ++row) {
    const float *x = a.x + row * a.x_step, *y = a.y + row * a.y_step;
    Vector sum{};
    for (int64_t c = 0; c < a.columns; c += lanes_of<Vector>()) {
      sum += vec::load_as<Vector>(x + c) * vec::load_as<Vector>(y + c);
    }
    a.sums[row] = sum_lanes(sum);
  }
}

/// Eight numbers of eight rows, of which those beyond the last are zero.
SEG_VECTOR_BODY void turn_eight(const TurnedRows& a, int64_t row, int64_t number, float* to) {
  using vec::kLanes;
  vec::F8 x[kLanes], y[kLanes];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kLanes; ++i) {
    x[i] = row + i < a.rows ? vec::load(a.from + (row + i) * a.step + number) : vec::F8{};
  }
  // The number at 8 i + j moves to twice its place modulo 63, three times: to 8 j + i.
#pragma GCC unroll 3
  for (int step = 0; step < 3; ++step) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = vec::low_in_turn(x[i], x[i + kLanes / 2]);
      y[2 * i + 1] = vec::high_in_turn(x[i], x[i + kLanes / 2]);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLanes; ++i) x[i] = y[i];
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kLanes; ++i) vec::store(to + i * kTileColumns, x[i]);
}

SEG_VECTOR_BODY void turn_rows_body(const TurnedRows& a) {
  float* panel = a.to;
  for (int64_t first = 0; first < a.rows; first += kTileColumns, panel += a.depth * kTileColumns) {
    for (int64_t row = 0; row < kTileColumns; row += vec::kLanes) {
      for (int64_t number = 0; number < a.depth; number += vec::kLanes) {
        turn_eight(a, first + row, number, panel + number * kTileColumns + row);
      }
    }
  }
}

SEG_WIDEST_KERNEL(exponentiate_kernel, exponentiate_body, SoftmaxBlock)
SEG_WIDEST_KERNEL(differentiate_kernel, differentiate_body, SlopeBlock)
SEG_WIDEST_KERNEL(scale_rows_kernel, scale_rows_body, ScaledRows)
SEG_WIDEST_KERNEL(multiply_rows_kernel, multiply_rows_body, RowProducts)
SEG_VECTOR_KERNEL(turn_rows_kernel, turn_rows_body, TurnedRows)

}  // namespace

void exponentiate_scores(const SoftmaxBlock& a) { exponentiate_kernel(a); }
void differentiate_scores(const SlopeBlock& a) { differentiate_kernel(a); }
void scale_rows(const ScaledRows& a) { scale_rows_kernel(a); }
void multiply_rows(const RowProducts& a) { multiply_rows_kernel(a); }
void turn_rows(const TurnedRows& a) { turn_rows_kernel(a); }

}  // namespace seg
