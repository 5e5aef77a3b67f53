#include "segcore/image/png_plain.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "segcore/image/inflated_stream.hpp"
#include "segcore/image/png_chunks.hpp"
#include "segcore/image/png_filters.hpp"

namespace seg::detail {
namespace {

using Bytes = std::span<const uint8_t>;

/// The parts of the compressed stream, in order; none where a chunk is damaged or comes behind
/// them.
std::vector<Bytes> stream_of(Bytes file) {
  std::vector<Bytes> parts;
  PngChunks chunks(file);
  while (const auto chunk = chunks.next()) {
    if (chunk->type == "IDAT") {
      if (!chunk->is_whole()) return {};
      parts.push_back(chunk->data);
    } else if (chunk->type == "IEND") {
      return parts;
    } else if (!parts.empty()) {
      return {};
    }
  }
  return {};
}

/// Rows of pixels, of which no more are decompressed, and no more of their filters undone, than a
/// window takes: what is below it and to the right of it never counts.
class PlainRows {
 public:
  PlainRows(std::vector<Bytes> parts, const PlainPng& header, const cv::Rect& window)
      : stream_(std::move(parts), /*with_checksum=*/window.y + window.height == header.height),
        header_(header),
        window_(window),
        columns_(window.x + window.width),
        stored_(1 + static_cast<size_t>(header.width) * static_cast<size_t>(header.bands)),
        held_(static_cast<size_t>(columns_ * header.bands) + FilteredColors::kBehind),
        stored_rows_(kRows * stored_ + FilteredColors::kBehind),
        rows_((1 + kRows) * held_),
        pixels_(window.height, window.width, CV_8UC(header.bands)) {}

  /// \return empty where the stream is damaged or does not hold the rows of the header.
  cv::Mat read() {
    const int end = window_.y + window_.height;
    for (int y = 0; y < end; y += kRows) {
      const int count = std::min(kRows, end - y);
      if (!read_rows(count)) return {};
      for (int row = 0; row < count; ++row) keep(y + row, row);
      std::copy_n(held(kRows - 1), held_, held(-1));
    }
    return end < header_.height || stream_.ended() ? pixels_ : cv::Mat();
  }

 private:
  static constexpr int kRows = FilteredColors::kRows;

  const uint8_t* stored(int row) const {
    return stored_rows_.data() + static_cast<size_t>(row) * stored_;
  }
  /// \param row  -1: the last one of those before.
  uint8_t* held(int row) { return rows_.data() + static_cast<size_t>(1 + row) * held_; }

  bool read_rows(int count) {
    if (count < kRows) std::fill(stored_rows_.begin(), stored_rows_.end(), uint8_t{0});
    if (!stream_.read({stored_rows_.data(), static_cast<size_t>(count) * stored_})) return false;
    for (int row = 0; row < count; ++row) {
      if (stored(row)[0] >= kPngFilters) return false;
    }
    header_.bands == 1 ? unfilter_labels(count) : unfilter_all();
    return true;
  }
  void unfilter_labels(int count) {
    for (int row = 0; row < count; ++row) {
      unfilter_gray(stored(row)[0], stored(row) + 1, held(row - 1), held(row), columns_);
    }
  }
  void unfilter_all() {
    FilteredColors rows{
        .filters = {}, .from = {}, .above = held(-1), .to = {}, .columns = columns_};
    for (int row = 0; row < kRows; ++row) {
      const auto at = static_cast<size_t>(row);
      rows.filters[at] = stored(row)[0];
      rows.from[at] = stored(row) + 1;
      rows.to[at] = held(row);
    }
    unfilter_colors(rows);
  }
  void keep(int y, int row) {
    if (y < window_.y) return;
    std::copy_n(held(row) + window_.x * header_.bands, window_.width * header_.bands,
                pixels_.ptr(y - window_.y));
  }

  InflatedStream stream_;
  PlainPng header_;
  cv::Rect window_;
  int columns_;           ///< whose filters are undone
  size_t stored_, held_;  ///< bytes of a row with the number of its filter, and without filters
  std::vector<uint8_t> stored_rows_, rows_;
  cv::Mat pixels_;
};

}  // namespace

cv::Mat decode_plain_png(std::span<const uint8_t> bytes, const PlainPng& header,
                         const cv::Rect& window) {
  auto parts = stream_of(bytes);
  if (parts.empty()) return {};
  return PlainRows(std::move(parts), header, window).read();
}

}  // namespace seg::detail
