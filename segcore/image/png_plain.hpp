/// PNG files of the plain kind, decoded at once.
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

/// The pixels as they are stored, decompressed by libdeflate as a whole: of labels that takes a
/// tenth of libpng's time. Only for files that are not interlaced. \return empty for a file in
/// which anything is unusual, such as a checksum that is not right or
///         metadata behind the pixels: libpng knows what to do with it.
cv::Mat decode_plain_png(std::span<const uint8_t> bytes, const PlainPng& header);

}  // namespace seg::detail
