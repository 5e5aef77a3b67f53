// Rows of the result are taken in bands, a thread each. Both resizings of a side are joined: a
// position of the result is a sum of up to four positions of the logits. The rows of logits around
// a row of the result are mixed first, then for each pixel the columns; the classes of a pixel are
// neighbours in memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "registry/error.hpp"
#include "segcore/cpu_vector.hpp"
#include "segcore/ops/bilinear_taps.hpp"
#include "segcore/ops/class_runs.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"

namespace seg {
namespace {

constexpr int64_t kBandRows = 16;  ///< of the result
constexpr size_t kMostParts = 4;
/// The logit of a class that is none: of equal ones the first is chosen.
constexpr float kNoLogit = -std::numeric_limits<float>::infinity();

/// What a position of the result is the sum of.
struct Mixture {
  std::array<int64_t, kMostParts> at{};
  std::array<float, kMostParts> share{};
  size_t count = 0;
  void add(int64_t position, float part) {
    if (part == 0) return;
    for (size_t i = 0; i < count; ++i) {
      if (at[i] != position) continue;
      share[i] += part;
      return;
    }
    at[count] = position;
    share[count++] = part;
  }
};

/// One side of the logits on its way to the original size.
std::vector<Mixture> mixtures(int64_t small, const LogitsGeometry& g, size_t side, bool flip) {
  const ResizeTaps enlarged(small, g.input[side], g.align_corners);
  const ResizeTaps resized(g.unpadded[side], g.original[side], g.align_corners);
  std::vector<Mixture> out(static_cast<size_t>(g.original[side]));
  for (size_t i = 0; i < out.size(); ++i) {
    const auto add = [&](int64_t position, float part) {
      const auto p = static_cast<size_t>(flip ? g.unpadded[side] - 1 - position : position);
      out[i].add(enlarged.first[p], part * (1 - enlarged.share[p]));
      out[i].add(enlarged.second[p], part * enlarged.share[p]);
    };
    add(resized.first[i], 1 - resized.share[i]);
    add(resized.second[i], resized.share[i]);
  }
  return out;
}

struct ArgmaxBand {
  const float* logits;  ///< [rows from first_row, width, lanes]
  const std::vector<Mixture>*rows, *columns;
  int64_t first_row, begin, end;  ///< of the logits; of the result
  int64_t lanes, width;
  float* row;    ///< scratch: [width, lanes]
  int64_t* ids;  ///< [H, W] of the image
};

/// The sum of a mixture's runs of `size` values, at `step` from each other.
SEG_VECTOR_BODY vec::F8 mixed(const float* from, int64_t step, const Mixture& m) {
  vec::F8 sum = vec::load(from + m.at[0] * step) * m.share[0];
  for (size_t i = 1; i < m.count; ++i) sum += vec::load(from + m.at[i] * step) * m.share[i];
  return sum;
}

SEG_VECTOR_BODY vec::I8 not_numbers(const vec::F8& x) {
  return x != x;  // NOLINT(misc-redundant-expression)
}

/// The first class whose logit is not a number: argmax takes it for the largest.
SEG_VECTOR_BODY int64_t first_nan(const ArgmaxBand& a, const Mixture& column) {
  for (int64_t c = 0; c < a.lanes; c += vec::kLanes) {
    const vec::F8 value = mixed(a.row + c, a.lanes, column);
    for (int64_t i = 0; i < vec::kLanes; ++i) {
      if (std::isnan(value[i])) return c + i;
    }
  }
  return 0;
}

SEG_VECTOR_BODY int64_t best_class(const ArgmaxBand& a, const Mixture& column) {
  vec::F8 most = mixed(a.row, a.lanes, column);
  vec::I8 which{}, block{}, no_number = not_numbers(most);
  for (int64_t c = vec::kLanes; c < a.lanes; c += vec::kLanes) {
    const vec::F8 value = mixed(a.row + c, a.lanes, column);
    block += 1;
    no_number |= not_numbers(value);
    which = value > most ? block : which;
    most = vec::max(value, most);
  }
  bool all_numbers = true;
  for (int64_t i = 0; i < vec::kLanes; ++i) all_numbers &= no_number[i] == 0;
  if (!all_numbers) return first_nan(a, column);
  // The first of equals, as argmax has it.
  float value = most[0];
  int64_t id = static_cast<int64_t>(which[0]) * vec::kLanes;
  for (int64_t i = 1; i < vec::kLanes; ++i) {
    const int64_t other = static_cast<int64_t>(which[i]) * vec::kLanes + i;
    if (most[i] > value || (most[i] == value && other < id)) {
      value = most[i];
      id = other;
    }
  }
  return id;
}

SEG_VECTOR_BODY void argmax_band_body(const ArgmaxBand& a) {
  const int64_t size = a.width * a.lanes;
  const auto out_width = static_cast<int64_t>(a.columns->size());
  for (int64_t y = a.begin; y < a.end; ++y) {
    const Mixture& row = (*a.rows)[static_cast<size_t>(y)];
    for (int64_t i = 0; i < size; i += vec::kLanes) {
      vec::store(a.row + i, mixed(a.logits - a.first_row * size + i, size, row));
    }
    for (int64_t x = 0; x < out_width; ++x) {
      a.ids[y * out_width + x] = best_class(a, (*a.columns)[static_cast<size_t>(x)]);
    }
  }
}
SEG_VECTOR_KERNEL(argmax_band, argmax_band_body, ArgmaxBand)

/// The rows of logits that some rows of the result are mixed from: the first, and how many.
std::pair<int64_t, int64_t> rows_of_band(const std::vector<Mixture>& rows, int64_t begin,
                                         int64_t end) {
  int64_t first = rows[static_cast<size_t>(begin)].at[0], last = first;
  for (int64_t y = begin; y < end; ++y) {
    const Mixture& row = rows[static_cast<size_t>(y)];
    for (size_t i = 0; i < row.count; ++i) {
      first = std::min(first, row.at[i]);
      last = std::max(last, row.at[i]);
    }
  }
  return {first, last - first + 1};
}

at::Tensor cpu_resize_argmax(const at::Tensor& logits, at::IntArrayRef input,
                             at::IntArrayRef unpadded, at::IntArrayRef original,
                             bool flip_horizontal, bool flip_vertical, bool align_corners,
                             double threshold) {
  SEG_CHECK(logits.dim() == 3, "expected [C, h, w], got ", logits.sizes());
  const auto g =
      logits_geometry(input, unpadded, original, flip_horizontal, flip_vertical, align_corners);
  const int64_t classes = logits.size(0), height = logits.size(1), width = logits.size(2);
  if (logits.scalar_type() != at::kFloat || classes == 1) {
    return composed_resize_argmax(LogitRows(logits, g), threshold);
  }
  const auto rows = mixtures(height, g, 0, flip_vertical);
  const auto columns = mixtures(width, g, 1, flip_horizontal);
  const auto whole = logits.contiguous();
  auto out = at::empty({g.original[0], g.original[1]}, logits.options().dtype(at::kLong));
  const int64_t lanes = class_lanes(classes);
  const int64_t bands = (g.original[0] + kBandRows - 1) / kBandRows;
  at::parallel_for(0, bands, 1, [&](int64_t first_band, int64_t last_band) {
    std::vector<float> row(static_cast<size_t>(width * lanes)), together;
    for (int64_t band = first_band; band < last_band; ++band) {
      const int64_t begin = band * kBandRows, end = std::min(begin + kBandRows, g.original[0]);
      const auto [first, count] = rows_of_band(rows, begin, end);
      together.resize(static_cast<size_t>(count) * row.size());
      put_classes_together(whole.const_data_ptr<float>() + first * width, height * width, classes,
                           count, width, lanes, kNoLogit, together.data());
      argmax_band({.logits = together.data(),
                   .rows = &rows,
                   .columns = &columns,
                   .first_row = first,
                   .begin = begin,
                   .end = end,
                   .lanes = lanes,
                   .width = width,
                   .row = row.data(),
                   .ids = out.mutable_data_ptr<int64_t>()});
    }
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) { m.impl("resize_argmax", &cpu_resize_argmax); }

}  // namespace seg
