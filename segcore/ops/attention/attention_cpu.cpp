// The CPU's kernel: some queries at a time with some keys at a time, whose scores stay in the
// cache.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "segcore/ops/attention/attention.hpp"
#include "segcore/ops/attention/attention_rows.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/ops/scratch.hpp"

namespace seg {
namespace {

using MaybeBias = std::optional<at::Tensor>;

constexpr int64_t kQueries = 64, kKeys = 256;  // of a block of scores
constexpr int64_t kScoreStep = kKeys + 16;     // not a power of two, for the cache
static_assert(kKeys % kTileColumns == 0 && kScoreStep % kBlockColumns == 0);

int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// Rows `step` apart.
template <class Float>
struct FloatRows {
  Float* first = nullptr;
  int64_t step = 0;
  Float* row(int64_t i) const { return first + i * step; }
};

/// The matrices [rows, columns] of a tensor [..., rows, columns].
template <class Float>
class FloatMatrices {
 public:
  FloatMatrices() = default;
  /// \param order  of the leading dimensions: that in which matrices are counted.
  FloatMatrices(const at::Tensor& t, const std::vector<int64_t>& order) : step_(t.stride(-2)) {
    if constexpr (std::is_const_v<Float>) {
      first_ = t.const_data_ptr<float>();
    } else {
      first_ = t.mutable_data_ptr<float>();
    }
    offsets_.push_back(0);
    for (const int64_t d : order) {
      std::vector<int64_t> next;
      next.reserve(offsets_.size() * static_cast<size_t>(t.size(d)));
      for (const int64_t offset : offsets_) {
        for (int64_t i = 0; i < t.size(d); ++i) next.push_back(offset + i * t.stride(d));
      }
      offsets_ = std::move(next);
    }
  }
  int64_t count() const { return static_cast<int64_t>(offsets_.size()); }
  FloatRows<Float> operator[](int64_t i) const {
    return {first_ + offsets_[static_cast<size_t>(i)], step_};
  }

 private:
  Float* first_ = nullptr;
  int64_t step_ = 0;
  std::vector<int64_t> offsets_;
};

at::Tensor in_rows(const at::Tensor& t) { return t.stride(-1) == 1 ? t : t.contiguous(); }

/// [..., heads, rows, columns], in memory [..., rows, heads, columns] as linear layers take it.
at::Tensor empty_rows(const at::Tensor& like, int64_t rows, int64_t columns) {
  auto shape = like.sizes().vec();
  shape[shape.size() - 2] = rows;
  shape.back() = columns;
  if (shape.size() < 4) return at::empty(shape, like.options());
  std::swap(shape[shape.size() - 2], shape[shape.size() - 3]);
  return at::empty(shape, like.options()).transpose(-2, -3);
}

struct AttentionSizes {
  int64_t queries, keys, width, value_width;
  AttentionSizes(const at::Tensor& q, const at::Tensor& v)
      : queries(q.size(-2)), keys(v.size(-2)), width(q.size(-1)), value_width(v.size(-1)) {}
  int64_t turned(int64_t columns) const {
    return parts_of(keys, kTileColumns) * kTileColumns * columns;
  }
};

/// Some rows of a block of scores.
struct Extent {
  int64_t first, count;
};

template <class Visit>
void for_extents(Extent all, int64_t size, const Visit& visit) {
  for (int64_t i = 0; i < all.count; i += size) {
    visit(Extent{all.first + i, std::min(size, all.count - i)});
  }
}

/// scores [queries, keys] = rows times keys, or values, that were turned.
void multiply_turned(FloatRows<const float> rows, const Extent& queries, const float* turned,
                     const Extent& keys, int64_t width, float* scores) {
  for_extents({0, keys.count}, kTileColumns, [&](const Extent& columns) {
    product_block({rows.row(queries.first), rows.step, /*turned_a=*/false,
                   turned + (keys.first + columns.first) * width, kTileColumns, width,
                   scores + columns.first, kScoreStep, queries.count,
                   parts_of(columns.count, kBlockColumns) * kBlockColumns, /*add=*/false});
  });
}

ScoreBlock score_block(float* scores, const Extent& queries, const Extent& keys, double scale,
                       const FloatRows<const float>& bias) {
  return {scores,
          kScoreStep,
          queries.count,
          keys.count,
          static_cast<float>(scale),
          bias.first ? bias.row(queries.first) + keys.first : nullptr,
          bias.step};
}

/// What a thread attends with.
class Attender {
 public:
  explicit Attender(const AttentionSizes& s)
      : s_(s), turned_keys_(s.turned(s.width)), scores_(kQueries * kScoreStep) {}

  void set_keys(FloatRows<const float> k, FloatRows<const float> v) {
    turn_rows({k.first, k.step, s_.keys, s_.width, turned_keys_.get()});
    v_ = v;
  }
  void attend(FloatRows<const float> q, FloatRows<const float> bias, double scale,
              const Extent& queries, FloatRows<float> out, float* log_sums) const {
    float most[kQueries], sum[kQueries], factor[kQueries];
    std::fill_n(most, kQueries, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kQueries, 0.0F);
    const ScaledRows rows{out.row(queries.first), out.step, queries.count, s_.value_width, factor};
    for_extents({0, s_.keys}, kKeys, [&](const Extent& keys) {
      multiply_turned(q, queries, turned_keys_.get(), keys, s_.width, scores_.get());
      exponentiate_scores(
          {score_block(scores_.get(), queries, keys, scale, bias), {most, sum, factor}});
      if (keys.first > 0) scale_rows(rows);
      product_block({scores_.get(), kScoreStep, /*turned_a=*/false, v_.row(keys.first), v_.step,
                     keys.count, rows.x, rows.step, queries.count, s_.value_width,
                     /*add=*/keys.first > 0});
    });
    for (int64_t i = 0; i < queries.count; ++i) {
      factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];  // all keys are masked
      log_sums[queries.first + i] = most[i] + std::log(sum[i]);
    }
    scale_rows(rows);
  }

 private:
  AttentionSizes s_;
  Scratch turned_keys_, scores_;
  FloatRows<const float> v_;
};

std::vector<int64_t> leading_dimensions(const at::Tensor& t) {
  std::vector<int64_t> out(static_cast<size_t>(t.dim() - 2));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

/// A bias, or its gradient, with a matrix for each of q's.
at::Tensor for_each_matrix(const at::Tensor& bias, const at::Tensor& q) {
  auto shape = q.sizes().vec();
  shape[shape.size() - 2] = bias.size(-2);
  shape.back() = bias.size(-1);
  return bias.expand(shape);
}

FloatMatrices<const float> bias_matrices(const at::Tensor& bias, const at::Tensor& q,
                                         const std::vector<int64_t>& order) {
  return {for_each_matrix(bias, q), order};
}

AttentionResult cpu_attention(const at::Tensor& given_q, const at::Tensor& given_k,
                              const at::Tensor& given_v, const MaybeBias& given_bias,
                              double scale) {
  if (!has_attention_kernel(given_q, given_k, given_v, given_bias)) {
    return composed_attention(given_q, given_k, given_v, given_bias, scale);
  }
  constexpr int64_t kChunk = 512;  // queries that keys are turned for
  const auto q = in_rows(given_q), k = in_rows(given_k), v = in_rows(given_v);
  const auto bias_rows = given_bias ? in_rows(*given_bias) : at::Tensor();
  const AttentionSizes s(q, v);
  const auto out = empty_rows(q, s.queries, s.value_width);
  const auto log_sums =
      at::empty(q.sizes().slice(0, static_cast<size_t>(q.dim() - 1)), q.options());
  const auto order = leading_dimensions(q);
  const FloatMatrices<const float> of_q(q, order), of_k(k, order), of_v(v, order);
  const FloatMatrices<const float> of_bias =
      given_bias ? bias_matrices(bias_rows, q, order) : FloatMatrices<const float>();
  const FloatMatrices<float> of_out(out, order);
  float* sums = log_sums.mutable_data_ptr<float>();
  const int64_t chunks = parts_of(s.queries, kChunk);
  at::parallel_for(0, of_q.count() * chunks, 1, [&](int64_t begin, int64_t end) {
    Attender attender(s);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / chunks, first = task % chunks * kChunk;
      attender.set_keys(of_k[i], of_v[i]);
      const auto bias = given_bias ? of_bias[i] : FloatRows<const float>();
      for_extents({first, std::min(kChunk, s.queries - first)}, kQueries,
                  [&](const Extent& queries) {
                    attender.attend(of_q[i], bias, scale, queries, of_out[i], sums + i * s.queries);
                  });
    }
  });
  return {out, log_sums};
}

/// Where gradients of a matrix of queries go.
struct AttentionSums {
  FloatRows<float> by_q, by_k, by_v;
  FloatRows<float> by_bias;  ///< first is null: not wanted
  bool add_to_bias;
};

/// What one matrix of queries was attended with.
struct AttentionInputs {
  FloatRows<const float> grad, q, k, v, bias, out, log_sums;
};

/// What a thread makes gradients with.
class AttentionDifferentiator {
 public:
  AttentionDifferentiator(const AttentionSizes& s, double scale)
      : s_(s),
        scale_(scale),
        turned_keys_(s.turned(s.width)),
        turned_values_(s.turned(s.value_width)),
        scores_(kQueries * kScoreStep),
        slopes_(kQueries * kScoreStep) {}

  /// \param queries  begins with those that are the first to be added to gradients by k and v.
  void differentiate(const AttentionInputs& in, const Extent& queries,
                     const AttentionSums& sums) const {
    turn_rows({in.k.first, in.k.step, s_.keys, s_.width, turned_keys_.get()});
    turn_rows({in.v.first, in.v.step, s_.keys, s_.value_width, turned_values_.get()});
    for_extents(queries, kQueries, [&](const Extent& some) {
      float mean_slopes[kQueries];
      multiply_rows({in.grad.row(some.first), in.grad.step, in.out.row(some.first), in.out.step,
                     some.count, s_.value_width, mean_slopes});
      for_extents({0, s_.keys}, kKeys, [&](const Extent& keys) {
        make_slopes(in, some, keys, mean_slopes, sums);
        add_products(in, some, keys, /*add=*/some.first > queries.first, sums);
      });
    });
  }

 private:
  void make_slopes(const AttentionInputs& in, const Extent& queries, const Extent& keys,
                   const float* mean_slopes, const AttentionSums& sums) const {
    multiply_turned(in.q, queries, turned_keys_.get(), keys, s_.width, scores_.get());
    multiply_turned(in.grad, queries, turned_values_.get(), keys, s_.value_width, slopes_.get());
    differentiate_scores(
        {score_block(scores_.get(), queries, keys, scale_, in.bias), slopes_.get(),
         in.log_sums.row(queries.first), mean_slopes,
         sums.by_bias.first ? sums.by_bias.row(queries.first) + keys.first : nullptr,
         sums.by_bias.step, sums.add_to_bias});
  }
  void add_products(const AttentionInputs& in, const Extent& queries, const Extent& keys, bool add,
                    const AttentionSums& sums) const {
    product_block({slopes_.get(), kScoreStep, /*turned_a=*/false, in.k.row(keys.first), in.k.step,
                   keys.count, sums.by_q.row(queries.first), sums.by_q.step, queries.count,
                   s_.width, /*add=*/keys.first > 0});
    product_block({slopes_.get(), kScoreStep, /*turned_a=*/true, in.q.row(queries.first), in.q.step,
                   queries.count, sums.by_k.row(keys.first), sums.by_k.step, keys.count, s_.width,
                   add});
    product_block({scores_.get(), kScoreStep, /*turned_a=*/true, in.grad.row(queries.first),
                   in.grad.step, queries.count, sums.by_v.row(keys.first), sums.by_v.step,
                   keys.count, s_.value_width, add});
  }

  AttentionSizes s_;
  double scale_;
  Scratch turned_keys_, turned_values_, scores_, slopes_;
};

/// How gradients are shared between tasks, the same for any number of threads.
struct AttentionTasks {
  std::vector<int64_t> order;       ///< of leading dimensions, those that share a bias last
  int64_t biases = 1, sharing = 1;  ///< how many, and how many matrices share each
  int64_t groups = 1;               ///< of biases
  int64_t slices = 1;               ///< of `sharing`: gradients by the bias are added up
  int64_t chunk = 0, chunks = 1;    ///< of queries: gradients by keys and values are added up

  AttentionTasks(const at::Tensor& q, const MaybeBias& bias) {
    constexpr int64_t kTasks = 16, kLeastChunk = 2 * kQueries;
    for (const bool shared : {false, true}) {
      for (const int64_t d : leading_dimensions(q)) {
        if (shared != (bias && bias->size(d) < q.size(d))) continue;
        order.push_back(d);
        (shared ? sharing : biases) *= q.size(d);
      }
    }
    // Heads of a window lie side by side in memory, and their biases are small.
    groups = sharing >= kTasks ? 1 : biases;
    if (groups == 1) slices = std::min(sharing, kTasks);
    const int64_t queries = q.size(-2);
    chunk = std::max(parts_of(queries, parts_of(kTasks, groups * slices)), kLeastChunk);
    chunk = parts_of(chunk, kQueries) * kQueries;
    chunks = parts_of(queries, chunk);
  }
  int64_t count() const { return groups * slices * chunks; }

  /// Calls visit(matrix, slice, chunk, is_first) for each matrix of queries of a task.
  template <class Visit>
  void visit(int64_t task, const Visit& visit_one) const {
    const int64_t slice = task / chunks % slices, group = task / chunks / slices;
    const int64_t first = slice * sharing / slices, last = (slice + 1) * sharing / slices;
    for (int64_t i = first; i < last; ++i) {
      for (int64_t b = group * biases / groups; b < (group + 1) * biases / groups; ++b) {
        visit_one(b * sharing + i, slice, task % chunks, i == first);
      }
    }
  }
};

/// Tensors of one shape that are added up in the end.
class AttentionParts {
 public:
  AttentionParts(int64_t count, const std::vector<int64_t>& order,
                 const std::function<at::Tensor()>& make,
                 const std::function<at::Tensor(const at::Tensor&)>& seen) {
    for (int64_t i = 0; i < count; ++i) {
      parts_.push_back(make());
      matrices_.emplace_back(seen(parts_.back()), order);
    }
  }
  FloatRows<float> rows(int64_t part, int64_t matrix) const {
    return matrices_[static_cast<size_t>(part)][matrix];
  }
  at::Tensor sum() {
    for (size_t i = 1; i < parts_.size(); ++i) parts_[0].add_(parts_[i]);
    return parts_[0];
  }

 private:
  std::vector<at::Tensor> parts_;
  std::vector<FloatMatrices<float>> matrices_;
};

AttentionDerivatives cpu_attention_backward(const at::Tensor& given_grad, const at::Tensor& given_q,
                                            const at::Tensor& given_k, const at::Tensor& given_v,
                                            const MaybeBias& given_bias,
                                            const at::Tensor& given_out,
                                            const at::Tensor& given_sums, double scale,
                                            bool with_bias) {
  if (!has_attention_kernel(given_q, given_k, given_v, given_bias)) {
    return composed_attention_backward(given_grad, given_q, given_k, given_v, given_bias, given_out,
                                       given_sums, scale, with_bias);
  }
  const auto grad = in_rows(given_grad), q = in_rows(given_q), k = in_rows(given_k),
             v = in_rows(given_v), out = in_rows(given_out);
  const auto bias_rows = given_bias ? in_rows(*given_bias) : at::Tensor();
  const AttentionSizes s(q, v);
  const AttentionTasks tasks(q, with_bias ? given_bias : MaybeBias());
  const auto& order = tasks.order;
  const FloatMatrices<const float> of_grad(grad, order), of_q(q, order), of_k(k, order),
      of_v(v, order), of_out(out, order), of_sums(given_sums.unsqueeze(-1), order);
  const FloatMatrices<const float> of_bias =
      given_bias ? bias_matrices(bias_rows, q, order) : FloatMatrices<const float>();
  const auto by_q = empty_rows(q, s.queries, s.width);
  const FloatMatrices<float> of_by_q(by_q, order);
  const auto same = [](const at::Tensor& t) { return t; };
  AttentionParts by_k(
      tasks.chunks, order, [&] { return empty_rows(k, s.keys, s.width); }, same);
  AttentionParts by_v(
      tasks.chunks, order, [&] { return empty_rows(v, s.keys, s.value_width); }, same);
  AttentionParts by_bias(
      with_bias ? tasks.slices : 0, order,
      [&] { return at::empty(given_bias->sizes(), q.options()); },
      [&](const at::Tensor& t) { return for_each_matrix(t, q); });
  at::parallel_for(0, tasks.count(), 1, [&](int64_t begin, int64_t end) {
    const AttentionDifferentiator differentiator(s, scale);
    for (int64_t task = begin; task < end; ++task) {
      tasks.visit(task, [&](int64_t i, int64_t slice, int64_t chunk, bool is_first) {
        const int64_t query = chunk * tasks.chunk;
        differentiator.differentiate(
            {of_grad[i], of_q[i], of_k[i], of_v[i],
             given_bias ? of_bias[i] : FloatRows<const float>(), of_out[i], of_sums[i]},
            {query, std::min(tasks.chunk, s.queries - query)},
            {of_by_q[i], by_k.rows(chunk, i), by_v.rows(chunk, i),
             with_bias ? by_bias.rows(slice, i) : FloatRows<float>(), !is_first});
      });
    }
  });
  return {by_q, by_k.sum(), by_v.sum(), with_bias ? by_bias.sum() : at::Tensor()};
}

}  // namespace

bool has_attention_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const MaybeBias& bias) {
  const auto fits = [&](const at::Tensor& t) {
    return t.is_cpu() && t.scalar_type() == at::kFloat && t.dim() == q.dim() && t.numel() > 0 &&
           t.size(-1) % kBlockColumns == 0 &&
           t.sizes().slice(0, static_cast<size_t>(q.dim() - 2)) ==
               q.sizes().slice(0, static_cast<size_t>(q.dim() - 2));
  };
  return has_fast_products() && q.dim() > 2 && fits(q) && fits(k) && fits(v) &&
         k.size(-1) == q.size(-1) && k.size(-2) == v.size(-2) &&
         (!bias || (bias->is_cpu() && bias->dim() >= 2 && bias->dim() <= q.dim() &&
                    (bias->scalar_type() == at::kFloat || bias->scalar_type() == at::kBool)));
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("attention", &cpu_attention);
  m.impl("attention_backward", &cpu_attention_backward);
}

}  // namespace seg
