// Channels-last: rows of C values, a row for each pixel. Sums are made of blocks of rows, whose
// number does not depend on the threads, and then over the blocks.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_layout.hpp"

namespace seg {
namespace {

/// Blocks are this many, of no fewer rows than kLeastRows.
constexpr int64_t kMostBlocks = 128, kLeastRows = 32;

struct RowMomentsArguments {
  const float* x;
  int64_t rows, channels;
  double *sums, *squares;  ///< of deviations from the first row
};

/// With the first row as an estimate of the mean nothing cancels in double precision.
SEG_VECTOR_BODY void row_moments_body(const RowMomentsArguments& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.channels;
    int64_t c = 0;
    for (; c + vec::kLanes <= a.channels; c += vec::kLanes) {
      const vec::D8 apart = vec::wide(vec::load(x + c)) - vec::wide(vec::load(a.x + c));
      vec::store(a.sums + c, vec::load(a.sums + c) + apart);
      vec::store(a.squares + c, vec::load(a.squares + c) + apart * apart);
    }
    for (; c < a.channels; ++c) {
      const double apart = static_cast<double>(x[c]) - a.x[c];
      a.sums[c] += apart;
      a.squares[c] += apart * apart;
    }
  }
}
SEG_VECTOR_KERNEL(row_moments, row_moments_body, RowMomentsArguments)

struct RowApplyArguments {
  const float *x, *residual;  ///< the second may be null
  float* y;
  int64_t rows, channels;
  const float *scales, *shifts;
};

SEG_VECTOR_BODY void row_apply_body(const RowApplyArguments& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t first = r * a.channels;
    const float* x = a.x + first;
    const float* residual = a.residual ? a.residual + first : nullptr;
    float* y = a.y + first;
    int64_t c = 0;
    for (; c + vec::kLanes <= a.channels; c += vec::kLanes) {
      vec::F8 value = vec::load(x + c) * vec::load(a.scales + c) + vec::load(a.shifts + c);
      if (residual) value += vec::load(residual + c);
      // Not a number stays one, as in LibTorch.
      vec::store(y + c, value < 0.0F ? vec::F8{} : value);
    }
    for (; c < a.channels; ++c) {
      float value = x[c] * a.scales[c] + a.shifts[c];
      if (residual) value += residual[c];
      y[c] = value < 0.0F ? 0.0F : value;
    }
  }
}
SEG_VECTOR_KERNEL(apply_to_rows, row_apply_body, RowApplyArguments)

struct RowSumsArguments {
  const float *gradient, *x, *y;
  int64_t rows, channels;
  const double* means;
  double *sums, *products;
};

SEG_VECTOR_BODY void row_sums_body(const RowSumsArguments& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t first = r * a.channels;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    int64_t c = 0;
    for (; c + vec::kLanes <= a.channels; c += vec::kLanes) {
      const vec::F8 passed = vec::load(y + c) <= 0.0F ? vec::F8{} : vec::load(g + c);
      const vec::D8 through = vec::wide(passed);
      const vec::D8 apart = vec::wide(vec::load(x + c)) - vec::load(a.means + c);
      vec::store(a.sums + c, vec::load(a.sums + c) + through);
      vec::store(a.products + c, vec::load(a.products + c) + through * apart);
    }
    for (; c < a.channels; ++c) {
      const double through = y[c] <= 0.0F ? 0.0 : g[c];
      a.sums[c] += through;
      a.products[c] += through * (x[c] - a.means[c]);
    }
  }
}
SEG_VECTOR_KERNEL(row_sums, row_sums_body, RowSumsArguments)

struct RowGradientArguments {
  const float *gradient, *x, *y;
  float *by_x, *by_residual;  ///< the second may be null
  int64_t rows, channels;
  const float *scales, *means, *slopes, *offsets;
};

SEG_VECTOR_BODY void row_gradient_body(const RowGradientArguments& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t first = r * a.channels;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    float* by_x = a.by_x + first;
    float* by_residual = a.by_residual ? a.by_residual + first : nullptr;
    int64_t c = 0;
    for (; c + vec::kLanes <= a.channels; c += vec::kLanes) {
      const vec::F8 through = vec::load(y + c) <= 0.0F ? vec::F8{} : vec::load(g + c);
      if (by_residual) vec::store(by_residual + c, through);
      const vec::F8 centred = vec::load(x + c) - vec::load(a.means + c);
      vec::store(by_x + c, through * vec::load(a.scales + c) - centred * vec::load(a.slopes + c) -
                               vec::load(a.offsets + c));
    }
    for (; c < a.channels; ++c) {
      const float through = y[c] <= 0.0F ? 0.0F : g[c];
      if (by_residual) by_residual[c] = through;
      by_x[c] = through * a.scales[c] - (x[c] - a.means[c]) * a.slopes[c] - a.offsets[c];
    }
  }
}
SEG_VECTOR_KERNEL(row_gradient, row_gradient_body, RowGradientArguments)

class RowLayout final : public BatchNormLayout {
 public:
  explicit RowLayout(const at::Tensor& x)
      : rows_(x.numel() / x.size(1)),
        channels_(x.size(1)),
        block_(std::max(kLeastRows, (rows_ + kMostBlocks - 1) / kMostBlocks)) {}

  void moments(const float* x, double* means, double* squares) const override {
    const auto parts = summed_blocks([&](int64_t first, int64_t rows, double* one, double* other) {
      row_moments({x + first * channels_, rows, channels_, one, other});
    });
    for (int64_t c = 0; c < channels_; ++c) {
      // Blocks joined as Chan et al. 1979 do.
      double mean = 0, square = 0, count = 0;
      for (int64_t b = 0; b < blocks(); ++b) {
        const auto rows = static_cast<double>(rows_of(b));
        const double sum = part(parts, b, 0)[c];
        const double apart = x[b * block_ * channels_ + c] + sum / rows - mean;
        square +=
            part(parts, b, 1)[c] - sum * sum / rows + apart * apart * count * rows / (count + rows);
        mean += apart * rows / (count + rows);
        count += rows;
      }
      means[c] = mean;
      squares[c] = std::max(0.0, square);
    }
  }

  void normalise(const float* x, const float* residual, float* y, double* means, double* squares,
                 const ScaleOf& scale_of) const override {
    if (squares) moments(x, means, squares);
    std::vector<float> scales(size()), shifts(size());
    for (int64_t c = 0; c < channels_; ++c) {
      const auto [scale, shift] = scale_of(c);
      scales[static_cast<size_t>(c)] = scale;
      shifts[static_cast<size_t>(c)] = shift;
    }
    for_rows([&](int64_t row, int64_t rows) {
      const int64_t first = row * channels_;
      apply_to_rows({x + first, residual ? residual + first : nullptr, y + first, rows, channels_,
                     scales.data(), shifts.data()});
    });
  }

  void sums(const BatchNormMaps& maps, double* sums, double* products) const override {
    const auto parts = summed_blocks([&](int64_t row, int64_t rows, double* one, double* other) {
      const int64_t first = row * channels_;
      row_sums({maps.gradient + first, maps.x + first, maps.y + first, rows, channels_, maps.means,
                one, other});
    });
    for (int64_t c = 0; c < channels_; ++c) {
      sums[c] = products[c] = 0;
      for (int64_t b = 0; b < blocks(); ++b) {
        sums[c] += part(parts, b, 0)[c];
        products[c] += part(parts, b, 1)[c];
      }
    }
  }

  void gradients(const BatchNormMaps& maps, double* sums_of, double* products, bool sum_first,
                 const SlopesOf& slopes_of, float* by_x, float* by_residual) const override {
    if (sum_first) sums(maps, sums_of, products);
    std::vector<float> scales(size()), means(size()), slopes(size()), offsets(size());
    for (int64_t c = 0; c < channels_; ++c) {
      const NormSlopes by = slopes_of(c);
      const auto at = static_cast<size_t>(c);
      scales[at] = by.scale;
      means[at] = by.mean;
      slopes[at] = by.slope;
      offsets[at] = by.offset;
    }
    for_rows([&](int64_t row, int64_t rows) {
      const int64_t first = row * channels_;
      row_gradient({maps.gradient + first, maps.x + first, maps.y + first, by_x + first,
                    by_residual ? by_residual + first : nullptr, rows, channels_, scales.data(),
                    means.data(), slopes.data(), offsets.data()});
    });
  }

 private:
  size_t size() const { return static_cast<size_t>(channels_); }
  int64_t blocks() const { return (rows_ + block_ - 1) / block_; }
  int64_t rows_of(int64_t block) const { return std::min(block_, rows_ - block * block_); }

  /// The first or second sums of a block.
  const double* part(const std::vector<double>& parts, int64_t block, int64_t which) const {
    return parts.data() + (2 * block + which) * channels_;
  }

  /// Two sums a channel of each block, [blocks, 2, C].
  /// \param add  (first row, rows, sums, sums)
  template <class Add>
  std::vector<double> summed_blocks(const Add& add) const {
    std::vector<double> out(static_cast<size_t>(2 * blocks() * channels_));
    at::parallel_for(0, blocks(), grain(block_), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        double* sums = out.data() + 2 * b * channels_;
        add(b * block_, rows_of(b), sums, sums + channels_);
      }
    });
    return out;
  }

  template <class Use>
  void for_rows(const Use& use) const {
    at::parallel_for(0, rows_, grain(1),
                     [&](int64_t begin, int64_t end) { use(begin, end - begin); });
  }

  /// Units of work that are worth a thread.
  int64_t grain(int64_t rows_a_unit) const {
    return std::max<int64_t>(1, at::internal::GRAIN_SIZE / (rows_a_unit * channels_));
  }

  int64_t rows_, channels_, block_;
};

}  // namespace

std::unique_ptr<BatchNormLayout> batch_norm_rows(const at::Tensor& x) {
  return std::make_unique<RowLayout>(x);
}

}  // namespace seg
