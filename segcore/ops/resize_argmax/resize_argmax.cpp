#include "segcore/ops/resize_argmax/resize_argmax.hpp"

#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "registry/error.hpp"
#include "segcore/ops/bilinear_taps.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Elements of one strip of logits. 8 million floats are 32 MB; an image then has few strips, so
/// that their overhead is small.
constexpr int64_t kStripElements = 8 * 1024 * 1024;

struct RowTaps {
  at::Tensor first, second;  ///< int64 [n], on the CPU
  at::Tensor share;          ///< [n, 1]
};

RowTaps row_taps(int64_t in, int64_t out, int64_t begin, int64_t end, bool align_corners,
                 const at::Tensor& like) {
  const int64_t n = end - begin;
  const bool wide = like.scalar_type() == at::kDouble;
  RowTaps taps{at::empty({n}, at::kLong), at::empty({n}, at::kLong),
               at::empty({n}, wide ? at::kDouble : at::kFloat)};
  auto* first = taps.first.data_ptr<int64_t>();
  auto* second = taps.second.data_ptr<int64_t>();
  if (wide) {
    fill_taps(in, out, begin, end, align_corners, first, second, taps.share.data_ptr<double>());
  } else {
    fill_taps(in, out, begin, end, align_corners, first, second, taps.share.data_ptr<float>());
  }
  taps.share = taps.share.to(like.device(), like.scalar_type()).unsqueeze(1);
  return taps;
}

/// Mixes two sets of rows [C, n, W].
at::Tensor mix(const at::Tensor& a, const at::Tensor& b, const at::Tensor& share) {
  return at::lerp(a, b, share);
}

at::Tensor take_rows(const at::Tensor& x, const at::Tensor& index) {
  return x.index_select(1, index.to(x.device()));
}

/// Resizes the columns of [C, h, w] alone.
at::Tensor resize_columns(const at::Tensor& x, int64_t width, bool align_corners) {
  if (x.size(2) == width) return x;
  return at::upsample_bilinear2d(x.unsqueeze(0), {x.size(1), width}, align_corners).squeeze(0);
}

/// Rows of an image that make one strip.
int64_t strip_rows(const LogitRows& source) {
  return std::max<int64_t>(
      1, kStripElements / std::max<int64_t>(1, source.channels() * source.width()));
}

/// Calls `use(first row, logits [C, n, W] of each source)` for each strip of an image.
template <class Use>
void for_strips(const std::vector<LogitRows>& sources, const Use& use) {
  SEG_CHECK(!sources.empty(), "no logits to average");
  const auto& shape = sources.front();
  const int64_t step = strip_rows(shape);
  for (int64_t y = 0; y < shape.height(); y += step) {
    const int64_t end = std::min(y + step, shape.height());
    std::vector<at::Tensor> strips;
    for (const auto& source : sources) {
      SEG_CHECK(source.height() == shape.height() && source.width() == shape.width(),
                "augmentations of one image have different original shapes");
      strips.push_back(source.rows(y, end));
    }
    use(y, strips);
  }
}

using ResizeArgmaxSignature = at::Tensor(const at::Tensor& logits, at::IntArrayRef input,
                                         at::IntArrayRef unpadded, at::IntArrayRef original,
                                         bool flip_horizontal, bool flip_vertical,
                                         bool align_corners, double threshold);

at::Tensor resize_argmax_by_aten(const at::Tensor& logits, at::IntArrayRef input,
                                 at::IntArrayRef unpadded, at::IntArrayRef original,
                                 bool flip_horizontal, bool flip_vertical, bool align_corners,
                                 double threshold) {
  const auto geometry =
      logits_geometry(input, unpadded, original, flip_horizontal, flip_vertical, align_corners);
  return composed_resize_argmax(LogitRows(logits, geometry), threshold);
}

}  // namespace

LogitsGeometry logits_geometry(at::IntArrayRef input, at::IntArrayRef unpadded,
                               at::IntArrayRef original, bool flip_horizontal, bool flip_vertical,
                               bool align_corners) {
  const auto size = [](at::IntArrayRef given, const char* name) {
    SEG_CHECK(given.size() == 2 && given[0] > 0 && given[1] > 0, name,
              ": expected a height and a width, got ", given);
    return std::array<int64_t, 2>{given[0], given[1]};
  };
  return {size(input, "input"),
          size(unpadded, "unpadded"),
          size(original, "original"),
          flip_horizontal,
          flip_vertical,
          align_corners};
}

std::array<int64_t, 2> input_rows_of(const LogitsGeometry& geometry, int64_t y, bool wide) {
  const int64_t in = geometry.unpadded[0], out = geometry.original[0];
  if (in == out) return {y, y};
  int64_t first = 0, second = 0;
  if (wide) {
    double share = 0;
    fill_taps(in, out, y, y + 1, geometry.align_corners, &first, &second, &share);
  } else {
    float share = 0;
    fill_taps(in, out, y, y + 1, geometry.align_corners, &first, &second, &share);
  }
  return {first, second};
}

LogitRows::LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry)
    : logits_(logits), geometry_(geometry) {
  SEG_CHECK(logits.dim() == 3, "expected [C, h, w], got ", logits.sizes());
}

LogitRows::LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry, int64_t first_row)
    : LogitRows(logits, geometry) {
  first_row_ = first_row;
}

const at::Tensor& LogitRows::columns() const {
  if (columns_.defined()) return columns_;
  const auto& g = geometry_;
  // Rows and columns are resized independently, so the columns are done first, at the small height.
  auto x = resize_columns(logits_, g.input[1], g.align_corners);
  x = x.narrow(2, 0, g.unpadded[1]);
  if (g.flip_horizontal) x = x.flip({2});
  columns_ = resize_columns(x, g.original[1], g.align_corners);
  return columns_;
}

at::Tensor LogitRows::rows(int64_t begin, int64_t end) const {
  const auto& g = geometry_;
  const at::Tensor& columns = this->columns();
  const int64_t small = columns.size(1);
  if (!first_row_ && begin == 0 && end == height() && small == g.input[0] &&
      g.unpadded == g.original && g.unpadded[0] == small && !g.flip_vertical) {
    return columns;
  }
  // From rows of the result to rows of the input, undoing flip and padding, to rows of the logits.
  const auto input_rows = [&](at::Tensor index) {
    if (g.flip_vertical) index = g.unpadded[0] - 1 - index;
    if (first_row_) return take_rows(columns, index - *first_row_);
    if (small == g.input[0]) return take_rows(columns, index);
    const auto taps = row_taps(small, g.input[0], 0, g.input[0], g.align_corners, columns);
    const auto share = taps.share.index_select(0, index.to(columns.device()));
    return mix(take_rows(columns, taps.first.index_select(0, index)),
               take_rows(columns, taps.second.index_select(0, index)), share);
  };
  if (g.unpadded[0] == g.original[0]) return input_rows(at::arange(begin, end, at::kLong));
  const auto taps = row_taps(g.unpadded[0], g.original[0], begin, end, g.align_corners, columns);
  return mix(input_rows(taps.first), input_rows(taps.second), taps.share);
}

at::Tensor classes_of(const at::Tensor& logits, double threshold) {
  if (logits.size(0) == 1) return (logits[0].sigmoid() > threshold).to(at::kLong);
  return logits.argmax(0);
}

at::Tensor mean_scores(const std::vector<at::Tensor>& logits) {
  SEG_CHECK(!logits.empty(), "no logits to average");
  at::Tensor sum;
  for (const auto& one : logits) {
    const auto scores = one.size(0) == 1 ? one.sigmoid() : one.softmax(0);
    sum = sum.defined() ? sum.add_(scores) : scores;
  }
  return sum.div_(static_cast<double>(logits.size()));
}

at::Tensor classes_of_mean(const std::vector<at::Tensor>& logits, double threshold) {
  const auto mean = mean_scores(logits);
  return mean.size(0) == 1 ? (mean[0] > threshold).to(at::kLong) : mean.argmax(0);
}

at::Tensor resize_argmax(const LogitRows& source, double threshold) {
  if (source.first_row()) return composed_resize_argmax(source, threshold);
  static const auto op = find_operator<ResizeArgmaxSignature>("segcore::resize_argmax");
  const LogitsGeometry& g = source.geometry();
  return op.call(source.logits(), g.input, g.unpadded, g.original, g.flip_horizontal,
                 g.flip_vertical, g.align_corners, threshold);
}

at::Tensor composed_resize_argmax(const LogitRows& source, double threshold) {
  const int64_t step = strip_rows(source);
  if (step >= source.height()) return classes_of(source.rows(0, source.height()), threshold);
  at::Tensor out;
  for (int64_t y = 0; y < source.height(); y += step) {
    const int64_t end = std::min(y + step, source.height());
    const auto ids = classes_of(source.rows(y, end), threshold);
    if (!out.defined()) out = at::empty({source.height(), source.width()}, ids.options());
    out.narrow(0, y, end - y).copy_(ids);
  }
  return out;
}

at::Tensor resize_argmax_mean(const std::vector<LogitRows>& sources, double threshold) {
  at::Tensor out;
  for_strips(sources, [&](int64_t y, const std::vector<at::Tensor>& strips) {
    const auto ids = classes_of_mean(strips, threshold);
    if (!out.defined()) {
      out = at::empty({sources.front().height(), sources.front().width()}, ids.options());
    }
    out.narrow(0, y, ids.size(0)).copy_(ids);
  });
  return out;
}

at::Tensor resize_scores_mean(const std::vector<LogitRows>& sources) {
  at::Tensor out;
  for_strips(sources, [&](int64_t y, const std::vector<at::Tensor>& strips) {
    const auto scores = mean_scores(strips);
    if (!out.defined()) {
      const auto& shape = sources.front();
      out = at::empty({shape.channels(), shape.height(), shape.width()}, scores.options());
    }
    out.narrow(1, y, scores.size(1)).copy_(scores);
  });
  return out;
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "resize_argmax(Tensor logits, int[] input, int[] unpadded, int[] original, "
      "bool flip_horizontal, bool flip_vertical, bool align_corners, float threshold) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("resize_argmax", &resize_argmax_by_aten);
}

}  // namespace seg
