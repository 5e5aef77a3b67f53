#include "segcore/image/png_plain.hpp"

#include <libdeflate.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "segcore/cpu_vector.hpp"

namespace seg::detail {
namespace {

using Bytes = std::span<const uint8_t>;

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

/// The parts of the compressed stream, in order; none where a chunk is damaged or comes behind
/// them.
std::vector<Bytes> stream_of(Bytes file) {
  constexpr size_t kSignature = 8, kAround = 12;  // of a chunk: length, type and checksum
  std::vector<Bytes> parts;
  size_t at = kSignature;
  while (at + kAround <= file.size()) {
    const uint8_t* chunk = file.data() + at;
    const size_t length = big_endian(chunk);
    if (length > file.size() - at - kAround) return {};
    const std::string_view type(reinterpret_cast<const char*>(chunk + 4), 4);
    if (type == "IDAT") {
      if (libdeflate_crc32(0, chunk + 4, length + 4) != big_endian(chunk + 8 + length)) return {};
      parts.emplace_back(chunk + 8, length);
    } else if (type == "IEND") {
      return parts;
    } else if (!parts.empty()) {
      return {};
    }
    at += kAround + length;
  }
  return {};
}

/// \return false where the stream does not hold exactly `out`.
bool inflate(const std::vector<Bytes>& parts, std::span<uint8_t> out) {
  const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  if (!decompressor) return false;
  std::vector<uint8_t> joined;
  Bytes stream = parts.front();
  if (parts.size() > 1) {
    for (const Bytes& part : parts) joined.insert(joined.end(), part.begin(), part.end());
    stream = joined;
  }
  return libdeflate_zlib_decompress(decompressor.get(), stream.data(), stream.size(), out.data(),
                                    out.size(), nullptr) == LIBDEFLATE_SUCCESS;
}

using vec::U16;

uint8_t paeth(int left, int above, int corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  if (to_left <= to_above && to_left <= to_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(to_above <= to_corner ? above : corner);
}

/// A row of a picture while its filter is undone (PNG specification, 9.2): each byte is the
/// difference to a prediction from the bytes of the pixels to the left, above, and above to the
/// left.
template <int kBands>
struct FilteredRow {
  const uint8_t* from;
  const uint8_t* above;  ///< the row before it, or zeros
  uint8_t* to;
  int bytes;

  void unfilter_left() const {
    // Sums of 16 bytes, or of the 15 of five pixels: to each is added what lies one pixel before
    // it, then two, four and eight pixels.
    constexpr int kStep = 16 / kBands * kBands;
    int i = 0;
    U16 before{};
    for (; i + 16 <= bytes; i += kStep) {
      U16 sum = vec::load_as<U16>(from + i);
      sum += shifted<kBands>(sum);
      sum += shifted<2 * kBands>(sum);
      sum += shifted<4 * kBands>(sum);
      if constexpr (kBands == 1) sum += shifted<8>(sum);
      sum += before;
      vec::store_as(to + i, sum);
      before = last_pixel(sum);
    }
    for (; i < bytes; ++i) {
      to[i] = static_cast<uint8_t>(from[i] + (i < kBands ? 0 : to[i - kBands]));
    }
  }
  void unfilter_above() const {
    int i = 0;
    for (; i + 16 <= bytes; i += 16) {
      vec::store_as(to + i, vec::load_as<U16>(from + i) + vec::load_as<U16>(above + i));
    }
    for (; i < bytes; ++i) to[i] = static_cast<uint8_t>(from[i] + above[i]);
  }
  void unfilter_mean() const {
    std::array<uint8_t, kBands> left{};
    for (int i = 0; i < bytes; i += kBands) {
      for (int band = 0; band < kBands; ++band) {
        const int mean = (left[band] + above[i + band]) / 2;
        to[i + band] = left[band] = static_cast<uint8_t>(from[i + band] + mean);
      }
    }
  }
  void unfilter_paeth() const {
    std::array<uint8_t, kBands> left{}, corner{};
    int i = 0;
    while (i < bytes) {
      if (left == corner && i + 16 <= bytes && all_zero(from + i)) {
        // Where the left and the upper left pixel are equal, the prediction is the one above.
        constexpr int kStep = 16 / kBands * kBands;
        vec::store_as(to + i, vec::load_as<U16>(above + i));
        i += kStep;
        std::copy_n(to + i - kBands, kBands, left.begin());
        corner = left;
        continue;
      }
      for (int band = 0; band < kBands; ++band, ++i) {
        const uint8_t up = above[i];
        left[band] = to[i] = static_cast<uint8_t>(from[i] + paeth(left[band], up, corner[band]));
        corner[band] = up;
      }
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
  /// Of the pixels that are complete the last one, everywhere.
  static U16 last_pixel(const U16& x) {
    return last_pixel(x, std::make_integer_sequence<int, 16>());
  }
  template <int... kPlaces>
  static U16 last_pixel(const U16& x, std::integer_sequence<int, kPlaces...>) {
    constexpr int kFirst = (16 / kBands - 1) * kBands;
    return __builtin_shufflevector(x, x, (kFirst + kPlaces % kBands)...);
  }
  static bool all_zero(const uint8_t* bytes) {
    uint64_t halves[2];
    std::memcpy(halves, bytes, sizeof halves);
    return (halves[0] | halves[1]) == 0;
  }
};

/// \return false for an unknown filter.
template <int kBands>
bool unfilter(int filter, const FilteredRow<kBands>& row) {
  switch (filter) {
    case 0:
      std::memcpy(row.to, row.from, static_cast<size_t>(row.bytes));
      return true;
    case 1:
      row.unfilter_left();
      return true;
    case 2:
      row.unfilter_above();
      return true;
    case 3:
      row.unfilter_mean();
      return true;
    case 4:
      row.unfilter_paeth();
      return true;
    default:
      return false;
  }
}

template <int kBands>
bool unfilter_rows(Bytes rows, cv::Mat& pixels) {
  const int bytes = pixels.cols * kBands;
  const std::vector<uint8_t> zeros(static_cast<size_t>(bytes));
  const uint8_t* above = zeros.data();
  for (int y = 0; y < pixels.rows; ++y) {
    const uint8_t* row = rows.data() + static_cast<size_t>(y) * (static_cast<size_t>(bytes) + 1);
    uint8_t* to = pixels.ptr(y);
    if (!unfilter<kBands>(row[0], {row + 1, above, to, bytes})) return false;
    above = to;
  }
  return true;
}

}  // namespace

cv::Mat decode_plain_png(std::span<const uint8_t> bytes, const PlainPng& header) {
  const auto parts = stream_of(bytes);
  if (parts.empty()) return {};
  // Before each row comes the number of its filter. A matrix, whose memory is kept for the next.
  cv::Mat rows(header.height, header.width * header.bands + 1, CV_8U);
  const Bytes all(rows.data, rows.total());
  if (!inflate(parts, {rows.data, rows.total()})) return {};
  cv::Mat pixels(header.height, header.width, CV_8UC(header.bands));
  const bool known =
      header.bands == 1 ? unfilter_rows<1>(all, pixels) : unfilter_rows<3>(all, pixels);
  return known ? pixels : cv::Mat();
}

}  // namespace seg::detail
