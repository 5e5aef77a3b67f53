/// The decoders behind image_io.hpp, one file each. Internal.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <span>
#include <string>

#include "segcore/image/image_io.hpp"

namespace seg {
class FileReader;
}

namespace seg::detail {

/// The form that a decoder returns pixels in.
enum class PixelForm {
  kColor,   ///< 8 bits, three bands, BGR
  kGray,    ///< 8 bits, one band
  kStored,  ///< as stored; palettes become colours; three and four bands are BGR(A)
  kLabels,  ///< as stored; palettes stay indices, grey values below 8 bits are not scaled
};

struct Decoded {
  cv::Mat pixels;
  int orientation = 1;           ///< as EXIF counts them, 1 is upright
  std::optional<double> nodata;  ///< the value that the file declares as "no data"
};

struct EncodedImage {
  std::span<const uint8_t> bytes;  ///< all of the file, or the first ones of `file`
  const std::string& name;
  const FileReader* file = nullptr;     ///< gives the bytes that are not in memory
  std::optional<cv::Rect> window = {};  ///< of the pixels as they are stored; nothing: all
  uint64_t size() const;                ///< of the file
};

Decoded decode_jpeg(const EncodedImage& image, PixelForm form);
Decoded decode_png(const EncodedImage& image, PixelForm form);
/// \param file_order  bands are not swapped to BGR.
/// \param page  as in ReadOptions.
Decoded decode_tiff(const EncodedImage& image, PixelForm form, bool file_order,
                    std::optional<int64_t> page);
Decoded decode_bmp(const EncodedImage& image, PixelForm form);
Decoded decode_pnm(const EncodedImage& image, PixelForm form);
Decoded decode_webp(const EncodedImage& image, PixelForm form);
ImageInfo jpeg_info(const EncodedImage& image);
ImageInfo png_info(const EncodedImage& image);
ImageInfo tiff_info(const EncodedImage& image);
ImageInfo bmp_info(const EncodedImage& image);
ImageInfo pnm_info(const EncodedImage& image);
ImageInfo webp_info(const EncodedImage& image);

/// The orientation in a block of EXIF (a TIFF header and its first directory); 1 where it has no
/// valid one.
int exif_orientation(std::span<const uint8_t> block);

/// Refuses sizes that are not positive, absurdly large, or need more than `ratio` bytes of pixels
/// per byte of the file, so that nothing is allocated for a forged header. \throws DataError
void check_size(const EncodedImage& image, uint64_t width, uint64_t height, uint64_t bytes_a_pixel,
                uint64_t ratio);

/// Refuses a window that is not within the pixels, or whose pixels are to be turned upright.
/// \throws DataError
void check_window(const EncodedImage& image, int64_t width, int64_t height, int orientation);

/// "NAME: REASON".
[[noreturn]] void throw_image_error(const std::string& name, const std::string& reason);

}  // namespace seg::detail
