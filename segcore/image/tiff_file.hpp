/// A TIFF file opened through libtiff, and what its first directory says. Internal.
#pragma once
#include <tiffio.h>

#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <span>
#include <string>

#include "segcore/image/image_codecs.hpp"

namespace seg::detail {

/// One strip or tile may be larger than a small picture.
inline constexpr uint64_t kTiffFreeBlock = 64ull << 20;

struct TiffSource {
  std::span<const uint8_t> bytes;
  const FileReader* file = nullptr;  ///< in place of bytes
  uint64_t size = 0;
  uint64_t at = 0;
  std::string message;  ///< the first error that libtiff tells
};

struct TiffHandle {
  explicit TiffHandle(const EncodedImage& image);
  ~TiffHandle();
  TiffHandle(const TiffHandle&) = delete;
  TiffHandle& operator=(const TiffHandle&) = delete;

  template <class T>
  T tag(uint32_t which, T fallback) const {
    T value = fallback;
    return TIFFGetFieldDefaulted(tiff, which, &value) ? value : fallback;
  }

  TiffSource source;
  TIFF* tiff = nullptr;
};

struct TiffHeader {
  uint32_t width = 0, height = 0;
  uint16_t bits = 1, bands = 1, format = SAMPLEFORMAT_UINT, photometric = PHOTOMETRIC_MINISBLACK;
  uint16_t planes = PLANARCONFIG_CONTIG, compression = COMPRESSION_NONE, orientation = 1;
  bool alpha = false;
  std::optional<double> nodata;  ///< GDAL's tag
};

[[noreturn]] void throw_tiff_error(const std::string& name, const TiffHandle& handle);
TiffHeader read_tiff_header(const EncodedImage& image, const TiffHandle& handle);
/// Goes to a page; where none is chosen and there are several, the first one stays, with a warning.
/// \throws DataError for a page that the file does not have.
void choose_tiff_page(const EncodedImage& image, const TiffHandle& handle,
                      std::optional<int64_t> page, bool labels);
/// Strips or tiles that were left out of the file (offset and size are 0): none of their pixels has
/// data.
bool is_missing_tiff_block(const TiffHandle& handle, uint32_t block);
uint64_t count_missing_tiff_blocks(const TiffHandle& handle);
/// The window of the image, or all of it.
cv::Rect tiff_window(const EncodedImage& image, const TiffHeader& h);
/// Fills `pixels`, which has the size of the window and the depth and bands of the header, with the
/// samples as they are stored. Decodes the strips and tiles that the window touches, no others.
/// \throws DataError
void read_tiff_pixels(const EncodedImage& image, const TiffHandle& handle, const TiffHeader& h,
                      cv::Mat& pixels);
/// Red and blue of the first three bands change places.
void swap_tiff_red_and_blue(cv::Mat& pixels);

}  // namespace seg::detail
