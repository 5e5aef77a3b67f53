#include "segcore/image/png_filters.hpp"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "segcore/cpu_vector.hpp"

namespace seg::detail {
namespace {

using vec::U16;

uint8_t paeth(int left, int above, int corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  if (to_left <= to_above && to_left <= to_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(to_above <= to_corner ? above : corner);
}

struct GrayRow {
  const uint8_t* from;
  const uint8_t* above;
  uint8_t* to;
  int columns;

  void unfilter_left() const {
    // Sums of 16 bytes: to each is added what lies one pixel before it, then two, four and eight.
    int i = 0;
    U16 before{};
    for (; i + 16 <= columns; i += 16) {
      U16 sum = vec::load_as<U16>(from + i);
      sum += shifted<1>(sum);
      sum += shifted<2>(sum);
      sum += shifted<4>(sum);
      sum += shifted<8>(sum);
      sum += before;
      vec::store_as(to + i, sum);
      before = U16{} + sum[15];
    }
    for (; i < columns; ++i) to[i] = static_cast<uint8_t>(from[i] + (i == 0 ? 0 : to[i - 1]));
  }
  void unfilter_above() const {
    int i = 0;
    for (; i + 16 <= columns; i += 16) {
      vec::store_as(to + i, vec::load_as<U16>(from + i) + vec::load_as<U16>(above + i));
    }
    for (; i < columns; ++i) to[i] = static_cast<uint8_t>(from[i] + above[i]);
  }
  void unfilter_mean() const {
    uint8_t left = 0;
    for (int i = 0; i < columns; ++i) {
      to[i] = left = static_cast<uint8_t>(from[i] + (left + above[i]) / 2);
    }
  }
  void unfilter_paeth() const {
    uint8_t left = 0, corner = 0;
    int i = 0;
    while (i < columns) {
      if (left == corner && i + 16 <= columns && all_zero(from + i)) {
        // Where the left and the upper left pixel are equal, the prediction is the one above.
        vec::store_as(to + i, vec::load_as<U16>(above + i));
        i += 16;
        left = corner = to[i - 1];
        continue;
      }
      const uint8_t up = above[i];
      left = to[i] = static_cast<uint8_t>(from[i] + paeth(left, up, corner));
      corner = up;
      ++i;
    }
  }

 private:
  /// Moved to later pixels, zeros before them.
  template <int kBytes>
  static U16 shifted(const U16& x) {
    return shifted<kBytes>(x, std::make_integer_sequence<int, 16>());
  }
  template <int kBytes, int... kPlaces>
  static U16 shifted(const U16& x, std::integer_sequence<int, kPlaces...>) {
    return __builtin_shufflevector(x, U16{}, (kPlaces < kBytes ? 16 : kPlaces - kBytes)...);
  }
  static bool all_zero(const uint8_t* bytes) {
    uint64_t halves[2];
    std::memcpy(halves, bytes, sizeof halves);
    return (halves[0] | halves[1]) == 0;
  }
};

/// A pixel of each of the four rows, row by row; of each three bands, and a fourth of no meaning.
using Pixels = int16_t __attribute__((vector_size(32)));
using PackedPixels = uint32_t __attribute__((vector_size(16)));

SEG_VECTOR_BODY uint32_t pixel_at(const uint8_t* row, int x) {
  uint32_t pixel;
  std::memcpy(&pixel, row + 3 * x, sizeof pixel);
  return pixel;
}

SEG_VECTOR_BODY Pixels unpacked(const PackedPixels& pixels) {
  return __builtin_convertvector(std::bit_cast<U16>(pixels), Pixels);
}

SEG_VECTOR_BODY Pixels distance(const Pixels& x) { return x > -x ? x : -x; }

/// Rows are one vector, each two pixels behind the one above it: the pixel that is above a row's
/// next one is then two steps old, and no step waits for the move from row to row.
struct ColorRows {
  static constexpr int kRows = FilteredColors::kRows;
  static constexpr int kLag = 2;

  const FilteredColors& rows;
  Pixels by_left, by_above, by_mean, by_paeth;  ///< all bits of the rows with the filter
  Pixels left{}, corner{}, above_next{}, above_after{};

  SEG_VECTOR_BODY explicit ColorRows(const FilteredColors& of)
      : rows(of), by_left(with(1)), by_above(with(2)), by_mean(with(3)), by_paeth(with(4)) {}

  /// \tparam kInside  all rows have the step's pixel.
  template <bool kInside>
  SEG_VECTOR_BODY void step(int i) {
    const PackedPixels difference{stored<kInside>(0, i), stored<kInside>(1, i),
                                  stored<kInside>(2, i), stored<kInside>(3, i)};
    const U16 bytes = std::bit_cast<U16>(difference);
    const U16 bgr =
        __builtin_shufflevector(bytes, bytes, 2, 1, 0, 3, 6, 5, 4, 7, 10, 9, 8, 11, 14, 13, 12, 15);
    const PackedPixels top{kInside || inside(i) ? pixel_at(rows.above, i) : 0, 0, 0, 0};
    const Pixels above = above_next + unpacked(top);
    const Pixels value =
        (__builtin_convertvector(bgr, Pixels) + predicted(above)) & (Pixels{} + 0xFF);
    corner = above;
    left = value;
    above_next = above_after;
    above_after = __builtin_shufflevector(value, Pixels{}, 16, 17, 18, 19, 0, 1, 2, 3, 4, 5, 6, 7,
                                          8, 9, 10, 11);
    store<kInside>(i, value);
  }

 private:
  SEG_VECTOR_BODY Pixels with(int filter) const {
    Pixels out{};
    for (int i = 0; i < 16; ++i) out[i] = rows.filters[i / 4] == filter ? -1 : 0;
    return out;
  }
  template <bool kInside>
  SEG_VECTOR_BODY uint32_t stored(int row, int i) const {
    const int x = i - row * kLag;
    return kInside || inside(x) ? pixel_at(rows.from[static_cast<size_t>(row)], x) : 0;
  }
  SEG_VECTOR_BODY bool inside(int x) const { return x >= 0 && x < rows.columns; }
  SEG_VECTOR_BODY Pixels predicted(const Pixels& above) const {
    // What needs the pixel to the left comes last in each sum: the next step waits for it.
    const Pixels other =
        ((left & by_left) | (above & by_above)) | (((left + above) >> 1) & by_mean);
    const Pixels rise = above - corner, across = left - corner;
    const Pixels to_left = distance(rise), to_above = distance(across);
    const Pixels to_corner = distance(across + rise);
    const Pixels nearer = to_above < to_corner ? to_above : to_corner;
    const Pixels paeth_value = nearer < to_left ? (to_above <= to_corner ? above : corner) : left;
    return other | (paeth_value & by_paeth);
  }
  template <bool kInside>
  SEG_VECTOR_BODY void store(int i, const Pixels& value) const {
    const U16 bytes = __builtin_convertvector(value, U16);
    const PackedPixels packed = std::bit_cast<PackedPixels>(bytes);
    for (int row = 0; row < kRows; ++row) {
      const int x = i - row * kLag;
      const uint32_t pixel = packed[row];
      if (kInside || inside(x)) {
        std::memcpy(rows.to[row] + 3 * x, &pixel, sizeof pixel);
      }
    }
  }
};

SEG_VECTOR_BODY void unfilter_colors_body(const FilteredColors& of) {
  ColorRows rows(of);
  constexpr int kBehindLast = (ColorRows::kRows - 1) * ColorRows::kLag;
  int i = 0;
  for (; i < kBehindLast; ++i) rows.step<false>(i);
  for (; i < of.columns; ++i) rows.step<true>(i);
  for (; i < of.columns + kBehindLast; ++i) rows.step<false>(i);
}

SEG_VECTOR_KERNEL(unfilter_colors_kernel, unfilter_colors_body, FilteredColors)

}  // namespace

void unfilter_gray(int filter, const uint8_t* from, const uint8_t* above, uint8_t* to,
                   int columns) {
  const GrayRow row{from, above, to, columns};
  switch (filter) {
    case 0:
      std::memcpy(to, from, static_cast<size_t>(columns));
      break;
    case 1:
      row.unfilter_left();
      break;
    case 2:
      row.unfilter_above();
      break;
    case 3:
      row.unfilter_mean();
      break;
    default:
      row.unfilter_paeth();
      break;
  }
}

void unfilter_colors(const FilteredColors& rows) { unfilter_colors_kernel(rows); }

}  // namespace seg::detail
