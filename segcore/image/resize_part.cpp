#include "segcore/image/resize_part.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "registry/error.hpp"
#include "segcore/cpu_vector.hpp"

namespace seg {
namespace {

/// Weights of neighbours are fractions of 2048, as OpenCV's (INTER_RESIZE_COEF_BITS).
constexpr float kOne = 2048;

/// What OpenCV scales by: the reciprocal of the rounded ratio, not the ratio.
double step_of(int from, int to) { return 1.0 / (static_cast<double>(to) / from); }

/// One side of a picture, resized: for each pixel the two that it lies between.
struct Between {
  int left, right;  ///< pixels of the source
  int16_t left_weight, right_weight;
};

int16_t weight_of(float share) { return static_cast<int16_t>(std::lrintf(share * kOne)); }

/// \param clamp_weights  what lies beyond the edge is the edge's alone, as OpenCV has columns. Of
///                       rows both neighbours become the edge, and keep weights that round apart.
Between between(int at, double step, int length, bool clamp_weights) {
  auto fraction = static_cast<float>((at + 0.5) * step - 0.5);
  int left = static_cast<int>(std::floor(fraction));
  fraction -= static_cast<float>(left);
  if (clamp_weights && (left < 0 || left >= length - 1)) fraction = 0;
  return {std::clamp(left, 0, length - 1), std::clamp(left + 1, 0, length - 1),
          weight_of(1.F - fraction), weight_of(fraction)};
}

/// Those of a range of pixels, in the order in which they are written.
std::vector<Between> neighbours(int begin, int count, bool backwards, int from, int to,
                                bool clamp_weights) {
  std::vector<Between> out(static_cast<size_t>(count));
  const double step = step_of(from, to);
  for (int i = 0; i < count; ++i) {
    const int at = begin + (backwards ? count - 1 - i : i);
    out[static_cast<size_t>(i)] = between(at, step, from, clamp_weights);
  }
  return out;
}

/// A row resized, in sixteenths of the weights' unit: what OpenCV's second pass reads of its first.
void resize_row(const uint8_t* row, const Between* columns, int begin, int end, int bands,
                int16_t* out) {
  for (int x = begin; x < end; ++x) {
    const Between& c = columns[x];
    for (int band = 0; band < bands; ++band) {
      const int sum =
          row[c.left * bands + band] * c.left_weight + row[c.right * bands + band] * c.right_weight;
      out[x * bands + band] = static_cast<int16_t>(sum >> 4);
    }
  }
}

void blend_rows(const int16_t* above, const int16_t* below, int above_weight, int below_weight,
                int begin, int end, uint8_t* out) {
  for (int i = begin; i < end; ++i) {
    const int sum = ((above[i] * above_weight) >> 16) + ((below[i] * below_weight) >> 16);
    out[i] = static_cast<uint8_t>(std::clamp((sum + 2) >> 2, 0, 255));
  }
}

#if defined(__x86_64__)
#define SEG_AVX2 __attribute__((target("avx2")))

/// Four pixels of three bands: where they lie, and their weights, for the instructions below.
struct FourColumns {
  int32_t offset[4];
  int16_t weights[32];  ///< left and right in turn, eight for each of the pixels 0, 2, 1, 3
};

/// A row of columns, but for those next to an edge where eight bytes cannot be read.
struct ColumnsByFour {
  int begin = 0;
  std::vector<FourColumns> fours;
  int end() const { return begin + 4 * static_cast<int>(fours.size()); }
};

ColumnsByFour by_four(const std::vector<Between>& columns, int pixels) {
  const auto readable = [&](const Between& c) { return c.left * 3 + 8 <= pixels * 3; };
  ColumnsByFour out;
  const auto count = static_cast<int>(columns.size());
  while (out.begin < count && !readable(columns[static_cast<size_t>(out.begin)])) ++out.begin;
  for (int x = out.begin; x + 4 <= count; x += 4) {
    FourColumns four{};
    for (int i = 0; i < 4; ++i) {
      const Between& c = columns[static_cast<size_t>(x) + static_cast<size_t>(i)];
      if (!readable(c)) return out;
      four.offset[i] = c.left * 3;
      const int place = (i % 2) * 2 + i / 2;
      for (int k = 0; k < 4; ++k) {
        four.weights[place * 8 + 2 * k] = c.left_weight;
        four.weights[place * 8 + 2 * k + 1] = c.right_weight;
      }
    }
    out.fours.push_back(four);
  }
  return out;
}

SEG_AVX2 void resize_row_avx2(const uint8_t* row, const std::vector<FourColumns>& columns,
                              int16_t* out) {
  // Of a pixel and its right neighbour, band by band, as words.
  const __m256i pairs = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  // Three words of four, twice.
  const __m256i close = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1));
  const auto two = [&](int first, int second) __attribute__((always_inline, target("avx2"))) {
    const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + first));
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + second));
    return _mm256_shuffle_epi8(_mm256_set_m128i(b, a), pairs);
  };
  for (const FourColumns& c : columns) {
    const auto* weights = reinterpret_cast<const __m256i*>(c.weights);
    __m256i even = _mm256_madd_epi16(two(c.offset[0], c.offset[2]), _mm256_loadu_si256(weights));
    __m256i odd = _mm256_madd_epi16(two(c.offset[1], c.offset[3]), _mm256_loadu_si256(weights + 1));
    even = _mm256_srli_epi32(even, 4);
    odd = _mm256_srli_epi32(odd, 4);
    const __m256i words = _mm256_shuffle_epi8(_mm256_packs_epi32(even, odd), close);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(words));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 6), _mm256_extracti128_si256(words, 1));
    out += 12;
  }
}

/// Sixteen bytes of a row, for sixteen of the result.
struct ByteWindow {
  int32_t offset;
  uint8_t places[16];  ///< within the window, or kElsewhere
};
constexpr uint8_t kElsewhere = 0x80;

/// Columns of one byte. The last sixteen overlap those before them where their number asks for it.
struct ColumnsBySixteen {
  int windows_each = 0;  ///< for sixteen columns; 0: they lie too far apart
  std::vector<ByteWindow> windows;
};

ColumnsBySixteen by_sixteen(const std::vector<int>& columns, int pixels) {
  constexpr int kWide = 16, kMostWindows = 4;
  const auto count = static_cast<int>(columns.size());
  if (count < kWide || pixels < kWide) return {};
  const auto column = [&](int x) { return columns[static_cast<size_t>(x)]; };
  std::vector<int> begins;
  for (int x = 0; x < count; x += kWide) begins.push_back(std::min(x, count - kWide));
  int span = 0;
  for (const int x : begins) span = std::max(span, std::abs(column(x + kWide - 1) - column(x)) + 1);
  ColumnsBySixteen out{(span + kWide - 1) / kWide, {}};
  if (out.windows_each > kMostWindows) return {};
  for (const int x : begins) {
    const int first = std::min(column(x), column(x + kWide - 1));
    for (int i = 0; i < out.windows_each; ++i) {
      ByteWindow window{std::min(first + i * kWide, pixels - kWide), {}};
      for (int k = 0; k < kWide; ++k) {
        const int place = column(x + k) - window.offset;
        window.places[k] = place >= 0 && place < kWide ? static_cast<uint8_t>(place) : kElsewhere;
      }
      out.windows.push_back(window);
    }
  }
  return out;
}

SEG_AVX2 void copy_columns_avx2(const uint8_t* from, const ColumnsBySixteen& columns, int count,
                                uint8_t* to) {
  const ByteWindow* window = columns.windows.data();
  for (int x = 0; x < count; x += 16) {
    __m128i bytes = _mm_setzero_si128();
    for (int i = 0; i < columns.windows_each; ++i, ++window) {
      const auto* pixels = reinterpret_cast<const __m128i*>(from + window->offset);
      const auto* places = reinterpret_cast<const __m128i*>(window->places);
      bytes =
          _mm_or_si128(bytes, _mm_shuffle_epi8(_mm_loadu_si128(pixels), _mm_loadu_si128(places)));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + std::min(x, count - 16)), bytes);
  }
}

/// \return how many of the values were written.
SEG_AVX2 int blend_rows_avx2(const int16_t* above, const int16_t* below, int above_weight,
                             int below_weight, int count, uint8_t* out) {
  const __m256i weight_a = _mm256_set1_epi16(static_cast<int16_t>(above_weight));
  const __m256i weight_b = _mm256_set1_epi16(static_cast<int16_t>(below_weight));
  const __m256i half = _mm256_set1_epi16(2);
  const auto blend = [&](int at) __attribute__((always_inline, target("avx2"))) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(above + at));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(below + at));
    const __m256i sum =
        _mm256_add_epi16(_mm256_mulhi_epi16(a, weight_a), _mm256_mulhi_epi16(b, weight_b));
    return _mm256_srai_epi16(_mm256_add_epi16(sum, half), 2);
  };
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i bytes = _mm256_packus_epi16(blend(i), blend(i + 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm256_permute4x64_epi64(bytes, 0b11011000));
  }
  return i;
}
#endif

/// Resizes rows of one picture, and keeps the last two.
class RowResizer {
 public:
  RowResizer(const cv::Mat& pixels, std::vector<Between> columns)
      : pixels_(pixels), columns_(std::move(columns)), bands_(pixels.channels()) {
    // The instructions write two words more than they need.
    for (auto& row : rows_) row.resize(columns_.size() * static_cast<size_t>(bands_) + 2);
#if defined(__x86_64__)
    if (bands_ == 3 && has_avx2()) four_ = by_four(columns_, pixels.cols);
#endif
  }

  /// Two rows; good until the next call.
  std::array<const int16_t*, 2> rows(int above, int below) {
    return {row(above, below), row(below, above)};
  }

 private:
  /// \param other  is not given up for it.
  const int16_t* row(int y, int other) {
    if (y == held_[0]) return rows_[0].data();
    if (y == held_[1]) return rows_[1].data();
    const size_t place = held_[0] == other ? 1 : 0;
    held_[place] = y;
    int16_t* out = rows_[place].data();
    const auto* from = pixels_.ptr<uint8_t>(y);
    const auto plain = [&](int begin, int end) {
      resize_row(from, columns_.data(), begin, end, bands_, out);
    };
    const auto count = static_cast<int>(columns_.size());
#if defined(__x86_64__)
    if (!four_.fours.empty()) {
      plain(0, four_.begin);
      // Each four write two words of the next, so the rest comes last.
      resize_row_avx2(from, four_.fours, out + four_.begin * 3);
      plain(four_.end(), count);
      return out;
    }
#endif
    plain(0, count);
    return out;
  }

  const cv::Mat& pixels_;
  std::vector<Between> columns_;
  int bands_;
  std::vector<int16_t> rows_[2];
  int held_[2] = {-1, -1};
#if defined(__x86_64__)
  ColumnsByFour four_;
#endif
};

void blend(const int16_t* above, const int16_t* below, const Between& row, int count,
           uint8_t* out) {
  int done = 0;
#if defined(__x86_64__)
  if (has_avx2()) {
    done = blend_rows_avx2(above, below, row.left_weight, row.right_weight, count, out);
  }
#endif
  blend_rows(above, below, row.left_weight, row.right_weight, done, count, out);
}

/// The first of the neighbours and the last.
std::pair<int, int> ends_of(int begin, int count, int from, int to) {
  const double step = step_of(from, to);
  return {between(begin, step, from, true).left,
          between(begin + count - 1, step, from, true).right};
}

/// The pixel of the source that INTER_NEAREST takes.
int nearest(int at, double step, int length) {
  return std::min(static_cast<int>(std::floor(at * step)), length - 1);
}

template <class Pixel>
void copy_columns(const uint8_t* from, const std::vector<int>& columns, uint8_t* to) {
  const auto* pixels = reinterpret_cast<const Pixel*>(from);
  auto* out = reinterpret_cast<Pixel*>(to);
  for (size_t x = 0; x < columns.size(); ++x) out[x] = pixels[columns[x]];
}

/// Takes columns out of rows of one picture.
class ColumnCopier {
 public:
  ColumnCopier(const cv::Mat& pixels, std::vector<int> columns)
      : columns_(std::move(columns)), size_(pixels.elemSize()) {
#if defined(__x86_64__)
    if (size_ == 1 && has_avx2()) sixteen_ = by_sixteen(columns_, pixels.cols);
#endif
  }

  void copy(const uint8_t* from, uint8_t* to) const {
#if defined(__x86_64__)
    if (sixteen_.windows_each > 0) {
      return copy_columns_avx2(from, sixteen_, static_cast<int>(columns_.size()), to);
    }
#endif
    if (size_ == 1) return copy_columns<uint8_t>(from, columns_, to);
    if (size_ == 4) return copy_columns<uint32_t>(from, columns_, to);
    for (size_t x = 0; x < columns_.size(); ++x) {
      std::memcpy(to + x * size_, from + static_cast<size_t>(columns_[x]) * size_, size_);
    }
  }

 private:
  std::vector<int> columns_;
  size_t size_;
#if defined(__x86_64__)
  ColumnsBySixteen sixteen_;
#endif
};

}  // namespace

bool is_averaged(const cv::Size& from, const cv::Size& to) {
  return from.width == 2 * to.width && from.height == 2 * to.height;
}

cv::Rect needed_pixels(const cv::Size& from, const ResizedPart& to) {
  const auto [left, right] = ends_of(to.part.x, to.part.width, from.width, to.size.width);
  const auto [top, bottom] = ends_of(to.part.y, to.part.height, from.height, to.size.height);
  return {left, top, right - left + 1, bottom - top + 1};
}

cv::Rect needed_pixels_nearest(const cv::Size& from, const ResizedPart& to) {
  const auto ends = [](int begin, int count, int length, int resized) {
    const double step = step_of(length, resized);
    const int first = nearest(begin, step, length);
    return cv::Point(first, nearest(begin + count - 1, step, length) - first + 1);
  };
  const cv::Point x = ends(to.part.x, to.part.width, from.width, to.size.width);
  const cv::Point y = ends(to.part.y, to.part.height, from.height, to.size.height);
  return {x.x, y.x, x.y, y.y};
}

cv::Mat resize_part_nearest(const PictureWindow& from, const ResizedPart& to) {
  const double step_x = step_of(from.whole.width, to.size.width);
  const double step_y = step_of(from.whole.height, to.size.height);
  const cv::Rect& part = to.part;
  std::vector<int> columns(static_cast<size_t>(part.width));
  for (int x = 0; x < part.width; ++x) {
    const int at = part.x + (to.flip_x ? part.width - 1 - x : x);
    columns[static_cast<size_t>(x)] = nearest(at, step_x, from.whole.width) - from.origin.x;
  }
  const ColumnCopier copier(from.pixels, std::move(columns));
  cv::Mat out(part.height, part.width, from.pixels.type());
  const size_t bytes = static_cast<size_t>(part.width) * from.pixels.elemSize();
  int last = -1;
  for (int y = 0; y < part.height; ++y) {
    const int at = part.y + (to.flip_y ? part.height - 1 - y : y);
    const int row = nearest(at, step_y, from.whole.height) - from.origin.y;
    if (row == last) {
      std::memcpy(out.ptr(y), out.ptr(y - 1), bytes);
    } else {
      copier.copy(from.pixels.ptr(row), out.ptr(y));
    }
    last = row;
  }
  return out;
}

cv::Mat resize_part_bilinear(const PictureWindow& from, const ResizedPart& to) {
  SEG_CHECK(from.pixels.depth() == CV_8U, "bilinear parts are of uint8");
  const cv::Rect& part = to.part;
  auto columns = neighbours(part.x, part.width, to.flip_x, from.whole.width, to.size.width,
                            /*clamp_weights=*/true);
  for (Between& column : columns) {
    column.left -= from.origin.x;
    column.right -= from.origin.x;
  }
  const auto rows = neighbours(part.y, part.height, to.flip_y, from.whole.height, to.size.height,
                               /*clamp_weights=*/false);
  RowResizer resizer(from.pixels, std::move(columns));
  cv::Mat out(part.height, part.width, from.pixels.type());
  const int values = part.width * from.pixels.channels();
  for (int y = 0; y < part.height; ++y) {
    const Between& row = rows[static_cast<size_t>(y)];
    const auto [above, below] = resizer.rows(row.left - from.origin.y, row.right - from.origin.y);
    blend(above, below, row, values, out.ptr(y));
  }
  return out;
}

}  // namespace seg
