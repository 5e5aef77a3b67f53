// The CPU's kernel: rows in blocks of eight, whose sums over lanes are made together, in one visit
// of the cache's rows each way.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/layer_norm/layer_norm.hpp"
#include "segcore/ops/scratch.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;
using vec::F8;
using vec::kLanes;

constexpr int kBlock = 8;                      ///< rows
constexpr int64_t kRowsOfChunk = 32 * kBlock;  ///< of which weights' gradients are summed first
/// Longer rows have nothing to win.
constexpr int64_t kMostColumns = 4096;
/// Values of a block, which is visited three times in the nearest cache.
constexpr int64_t kMostInBlock = 1024;

struct NormRows {
  const float *x, *weight, *bias;
  float *y, *mean, *invstd;
  int64_t begin, end;  ///< rows
  int64_t columns;
  double eps;
};

struct NormGradientRows {
  const float *gradient, *x, *mean, *invstd, *weight;
  float* by_x;                 ///< null: not wanted
  float *by_weight, *by_bias;  ///< [columns], added to; null: not wanted
  int64_t begin, end;          ///< rows
  int64_t columns;
};

/// The sum over the lanes of each of eight vectors.
SEG_VECTOR_BODY F8 sums_of(const F8 (&rows)[kBlock]) {
  using vec::folded;
  return folded(folded(folded(rows[0], rows[4]), folded(rows[2], rows[6])),
                folded(folded(rows[1], rows[5]), folded(rows[3], rows[7])));
}

/// Calls `use(c, width)` for the columns of a row: whole vectors, and single values behind them.
template <class Use>
SEG_VECTOR_BODY void for_columns(int64_t columns, const Use& use) {
  int64_t c = 0;
  for (; c + kLanes <= columns; c += kLanes) use(c, vec::Width<F8>{});
  for (; c < columns; ++c) use(c, vec::Width<float>{});
}

SEG_VECTOR_BODY void add(F8& sum, const F8& x) { sum += x; }
SEG_VECTOR_BODY void add(F8& sum, float x) { sum[0] += x; }

/// The sum of `term(c, width)` over the columns, in two parts: each addition waits for the one
/// before.
template <class Term>
SEG_VECTOR_BODY F8 sum_over_columns(int64_t columns, const Term& term) {
  F8 even{}, odd{};
  int64_t c = 0;
  for (; c + 2 * kLanes <= columns; c += 2 * kLanes) {
    even += term(c, vec::Width<F8>{});
    odd += term(c + kLanes, vec::Width<F8>{});
  }
  if (c + kLanes <= columns) {
    even += term(c, vec::Width<F8>{});
    c += kLanes;
  }
  for (; c < columns; ++c) add(odd, term(c, vec::Width<float>{}));
  return even + odd;
}

SEG_VECTOR_BODY void normalise_block(const NormRows& a, int64_t first, int count) {
  const auto columns = static_cast<float>(a.columns);
  F8 found[kBlock] = {};
  for (int r = 0; r < count; ++r) {
    const float* x = a.x + (first + r) * a.columns;
    found[r] =
        sum_over_columns(a.columns, [&]<class V>(int64_t c, vec::Width<V>)
                                        SEG_INLINE_LAMBDA { return vec::load_as<V>(x + c); });
  }
  const F8 mean = sums_of(found) / columns;
  for (int r = 0; r < count; ++r) {
    const float *x = a.x + (first + r) * a.columns, own = mean[r];
    found[r] =
        sum_over_columns(a.columns, [&]<class V>(int64_t c, vec::Width<V>) SEG_INLINE_LAMBDA {
          const V away = vec::load_as<V>(x + c) - own;
          return away * away;
        });
  }
  const F8 variance = sums_of(found) / columns;
  for (int r = 0; r < count; ++r) {
    const int64_t row = first + r;
    const float *x = a.x + row * a.columns, own = mean[r];
    const auto factor = static_cast<float>(1 / std::sqrt(variance[r] + a.eps));
    float* y = a.y + row * a.columns;
    a.mean[row] = own;
    a.invstd[row] = factor;
    for_columns(a.columns, [&]<class V>(int64_t c, vec::Width<V>) SEG_INLINE_LAMBDA {
      const V normal = (vec::load_as<V>(x + c) - own) * factor;
      vec::store_as<V>(y + c, normal * vec::load_as<V>(a.weight + c) + vec::load_as<V>(a.bias + c));
    });
  }
}

/// Calls `block(first row, rows)`.
template <class Rows, class Block>
SEG_VECTOR_BODY void for_blocks(const Rows& a, const Block& block) {
  const auto most = std::clamp<int64_t>(kMostInBlock / a.columns, 1, kBlock);
  for (int64_t row = a.begin; row < a.end; row += most) {
    block(row, static_cast<int>(std::min(most, a.end - row)));
  }
}

SEG_VECTOR_BODY void normalise_body(const NormRows& a) {
  for_blocks(a, [&](int64_t row, int count) SEG_INLINE_LAMBDA { normalise_block(a, row, count); });
}

/// With n = (x - mean) * invstd and d = gradient * weight: invstd * (d - mean(d) - n * mean(d n)).
SEG_VECTOR_BODY void gradient_block(const NormGradientRows& a, int64_t first, int count) {
  const auto columns = static_cast<float>(a.columns);
  F8 plain[kBlock] = {}, along[kBlock] = {};
  for (int r = 0; r < count; ++r) {
    const int64_t row = first + r;
    const float *x = a.x + row * a.columns, *gradient = a.gradient + row * a.columns;
    const float own = a.mean[row], factor = a.invstd[row];
    F8 sum{}, product{};
    for_columns(a.columns, [&]<class V>(int64_t c, vec::Width<V>) SEG_INLINE_LAMBDA {
      const V g = vec::load_as<V>(gradient + c), normal = (vec::load_as<V>(x + c) - own) * factor;
      const V d = g * vec::load_as<V>(a.weight + c);
      add(sum, d);
      add(product, d * normal);
      if (!a.by_weight) return;
      vec::store_as<V>(a.by_weight + c, vec::load_as<V>(a.by_weight + c) + g * normal);
      vec::store_as<V>(a.by_bias + c, vec::load_as<V>(a.by_bias + c) + g);
    });
    plain[r] = sum;
    along[r] = product;
  }
  if (!a.by_x) return;
  const F8 mean_plain = sums_of(plain) / columns, mean_along = sums_of(along) / columns;
  for (int r = 0; r < count; ++r) {
    const int64_t row = first + r;
    const float *x = a.x + row * a.columns, *gradient = a.gradient + row * a.columns;
    const float own = a.mean[row], factor = a.invstd[row];
    const float shift = mean_plain[r], slope = mean_along[r];
    float* by_x = a.by_x + row * a.columns;
    for_columns(a.columns, [&]<class V>(int64_t c, vec::Width<V>) SEG_INLINE_LAMBDA {
      const V normal = (vec::load_as<V>(x + c) - own) * factor;
      const V d = vec::load_as<V>(gradient + c) * vec::load_as<V>(a.weight + c);
      vec::store_as<V>(by_x + c, (d - shift - normal * slope) * factor);
    });
  }
}

SEG_VECTOR_BODY void gradient_body(const NormGradientRows& a) {
  for_blocks(a, [&](int64_t row, int count) SEG_INLINE_LAMBDA { gradient_block(a, row, count); });
}

SEG_VECTOR_KERNEL(normalise_rows, normalise_body, NormRows)
SEG_VECTOR_KERNEL(gradient_rows, gradient_body, NormGradientRows)

/// [columns]: of a parameter, or of one value where there is none.
class ColumnValues {
 public:
  ColumnValues(const MaybeTensor& given, int64_t columns, float otherwise)
      : given_(given), filled_(given ? 0 : static_cast<size_t>(columns), otherwise) {}
  const float* get() const { return given_ ? given_->const_data_ptr<float>() : filled_.data(); }

 private:
  const MaybeTensor& given_;
  std::vector<float> filled_;
};

int64_t rows_of(const at::Tensor& x) { return x.numel() / x.size(-1); }

LayerNormResult cpu_layer_norm(const at::Tensor& given, const MaybeTensor& weight,
                               const MaybeTensor& bias, double eps) {
  if (!has_layer_norm_kernel(given, weight, bias)) {
    return composed_layer_norm(given, weight, bias, eps);
  }
  const auto x = given.contiguous();
  const int64_t columns = x.size(-1);
  auto of_rows = x.sizes().vec();
  of_rows.back() = 1;
  const auto y = at::empty_like(x);
  const auto mean = at::empty(of_rows, x.options()), invstd = at::empty(of_rows, x.options());
  const ColumnValues scale(weight, columns, 1), shift(bias, columns, 0);
  NormRows all{x.const_data_ptr<float>(),
               scale.get(),
               shift.get(),
               y.mutable_data_ptr<float>(),
               mean.mutable_data_ptr<float>(),
               invstd.mutable_data_ptr<float>(),
               0,
               0,
               columns,
               eps};
  at::parallel_for(0, rows_of(x), kRowsOfChunk, [&](int64_t begin, int64_t end) {
    NormRows some = all;
    some.begin = begin;
    some.end = end;
    normalise_rows(some);
  });
  return {y, mean, invstd};
}

LayerNormGradients cpu_layer_norm_backward(const at::Tensor& given_gradient,
                                           const at::Tensor& given, const at::Tensor& mean,
                                           const at::Tensor& invstd, const MaybeTensor& weight,
                                           std::array<bool, 3> wanted) {
  if (!has_layer_norm_kernel(given, weight, std::nullopt) ||
      given_gradient.scalar_type() != at::kFloat) {
    return composed_layer_norm_backward(given_gradient, given, mean, invstd, weight, wanted);
  }
  const auto x = given.contiguous(), gradient = given_gradient.contiguous();
  const int64_t columns = x.size(-1), rows = rows_of(x);
  // A chunk's sums do not depend on the threads.
  const int64_t chunks = (rows + kRowsOfChunk - 1) / kRowsOfChunk;
  const bool sums_up = wanted[1] || wanted[2];
  const Scratch sums(sums_up ? chunks * 2 * columns : 0);
  const auto by_x = wanted[0] ? at::empty_like(x) : at::Tensor();
  const ColumnValues scale(weight, columns, 1);
  const NormGradientRows all{gradient.const_data_ptr<float>(),
                             x.const_data_ptr<float>(),
                             mean.const_data_ptr<float>(),
                             invstd.const_data_ptr<float>(),
                             scale.get(),
                             wanted[0] ? by_x.mutable_data_ptr<float>() : nullptr,
                             nullptr,
                             nullptr,
                             0,
                             0,
                             columns};
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      NormGradientRows some = all;
      if (sums_up) {
        some.by_weight = sums.get() + chunk * 2 * columns;
        some.by_bias = some.by_weight + columns;
        std::fill_n(some.by_weight, 2 * columns, 0.0F);
      }
      some.begin = chunk * kRowsOfChunk;
      some.end = std::min(rows, some.begin + kRowsOfChunk);
      gradient_rows(some);
    }
  });
  const auto total = [&](bool is_wanted, int64_t place) {
    if (!is_wanted) return at::Tensor();
    auto out = at::empty({columns}, x.options());
    auto* to = out.mutable_data_ptr<float>();
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += static_cast<double>(sums.get()[(chunk * 2 + place) * columns + c]);
      }
      to[c] = static_cast<float>(sum);
    }
    return out;
  };
  return {by_x, total(wanted[1], 0), total(wanted[2], 1)};
}

}  // namespace

bool has_layer_norm_kernel(const at::Tensor& x, const MaybeTensor& weight,
                           const MaybeTensor& bias) {
  const auto serves = [&](const MaybeTensor& parameter) {
    return !parameter || (parameter->scalar_type() == at::kFloat && parameter->dim() == 1 &&
                          parameter->size(0) == x.size(-1) && parameter->is_contiguous());
  };
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() >= 1 && x.numel() > 0 &&
         x.size(-1) <= kMostColumns && serves(weight) && serves(bias);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("layer_norm", &cpu_layer_norm);
  m.impl("layer_norm_backward", &cpu_layer_norm_backward);
}

}  // namespace seg
