/// PNG files of the plain kind, which are not interlaced, decoded as far as a window takes.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <span>

namespace seg::detail {

/// What the header says of the pixels.
struct PlainPng {
  int width = 0, height = 0;
  int bands = 0;  ///< of 8 bits each: 1, grey or an index; or 3, RGB
};

/// Pixels of a window within the picture; three bands are BGR. No more is decompressed than that
/// takes, though the checksums of all its chunks are compared. Of labels it takes a tenth of
/// libpng's time, of pictures a quarter. \return empty for a file in which anything is unusual,
/// such as a checksum that is not right or
///         metadata behind the pixels: libpng knows what to do with it.
cv::Mat decode_plain_png(std::span<const uint8_t> bytes, const PlainPng& header,
                         const cv::Rect& window);

}  // namespace seg::detail
