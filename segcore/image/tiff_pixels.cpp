/// The samples of strips and tiles, interleaved or in planes, 1 to 64 bits each.
#include <algorithm>
#include <cstring>
#include <opencv2/core.hpp>
#include <vector>

#include "registry/error.hpp"
#include "segcore/image/tiff_file.hpp"

namespace seg::detail {
namespace {

/// Spreads `count` samples of `bits` < 8 bits to bytes.
void unpack_tiff_bits(const uint8_t* from, uint8_t* to, size_t count, int bits) {
  const int mask = (1 << bits) - 1;
  for (size_t i = 0; i < count; ++i) {
    const size_t bit = i * static_cast<size_t>(bits);
    to[i] = static_cast<uint8_t>(from[bit / 8] >> (8 - bits - static_cast<int>(bit % 8)) & mask);
  }
}

/// Puts decoded rows of strips and tiles into the picture, which is a window of the raster.
struct TiffSink {
  cv::Mat& pixels;
  cv::Rect window;  ///< where in the raster the picture is
  int bits;
  std::vector<uint8_t> spread;

  /// \param row  of a block of `count` pixels; what lies outside of the window is left out.
  /// \param plane  < 0: all bands interleaved.
  void put(const uint8_t* row, int64_t y, int64_t x, int64_t count, int plane) {
    const int64_t begin = std::max<int64_t>(x, window.x);
    const int64_t end = std::min<int64_t>(x + count, window.x + window.width);
    if (y < window.y || y >= window.y + window.height || begin >= end) return;
    const int bands = pixels.channels();
    const auto together = static_cast<size_t>(plane < 0 ? bands : 1);
    const size_t skipped = static_cast<size_t>(begin - x) * together;
    const size_t samples = static_cast<size_t>(end - begin) * together;
    const size_t size = pixels.elemSize1();
    if (bits < 8) {
      spread.resize(skipped + samples);
      unpack_tiff_bits(row, spread.data(), skipped + samples, bits);
      row = spread.data();
    }
    row += skipped * size;
    uint8_t* to = pixels.ptr(static_cast<int>(y - window.y)) +
                  static_cast<size_t>(begin - window.x) * pixels.elemSize();
    if (plane < 0) {
      std::memcpy(to, row, samples * size);
      return;
    }
    to += static_cast<size_t>(plane) * size;
    for (size_t i = 0; i < samples; ++i) {
      std::memcpy(to + i * pixels.elemSize(), row + i * size, size);
    }
  }
};

/// Bytes of `samples` samples, rounded up.
size_t tiff_row_bytes(size_t samples, int bits) {
  return (samples * static_cast<size_t>(bits) + 7) / 8;
}

/// The bytes of a strip or tile whose samples all are `value`.
void fill_tiff_block(std::vector<uint8_t>& buffer, int depth, int bits, double value) {
  if (bits < 8) {
    const auto sample = static_cast<unsigned>(value) & ((1u << bits) - 1);
    unsigned byte = 0;
    for (int at = 0; at < 8; at += bits) byte |= sample << at;
    std::fill(buffer.begin(), buffer.end(), static_cast<uint8_t>(byte));
    return;
  }
  cv::Mat sample;
  cv::Mat(1, 1, CV_64F, cv::Scalar(value)).convertTo(sample, depth);
  const size_t size = sample.elemSize1();
  for (size_t at = 0; at + size <= buffer.size(); at += size) {
    std::memcpy(&buffer[at], sample.data, size);
  }
}

/// \param block  bytes of a strip or tile
/// \param picture  bytes of the whole raster
void check_tiff_block(const EncodedImage& image, bool tiled, uint64_t block, uint64_t picture) {
  const char* kind = tiled ? "tile" : "strip";
  if (block > std::max<uint64_t>(kTiffFreeBlock, 2 * picture)) {
    throw_image_error(image.name, text("damaged TIFF file: a ", kind, " of ", block,
                                       " bytes for a picture of ", picture));
  }
  if (!image.window) return;
  // A window is to take little memory, whatever the file says of itself.
  constexpr uint64_t kMostBlock = uint64_t{1} << 30;
  if (block > kMostBlock) {
    throw_image_error(image.name, text("is stored in ", kind, "s of ", block,
                                       " bytes, which are too large to read windows of: save it in "
                                       "tiles (gdal_translate -co TILED=YES)"));
  }
}

}  // namespace

cv::Rect tiff_window(const EncodedImage& image, const TiffHeader& h) {
  return image.window.value_or(
      cv::Rect(0, 0, static_cast<int>(h.width), static_cast<int>(h.height)));
}

void read_tiff_pixels(const EncodedImage& image, const TiffHandle& handle, const TiffHeader& h,
                      cv::Mat& pixels) {
  TIFF* tiff = handle.tiff;
  const bool tiled = TIFFIsTiled(tiff) != 0;
  const int planes = h.planes == PLANARCONFIG_SEPARATE ? h.bands : 1;
  const cv::Rect window = tiff_window(image, h);
  const int64_t width = h.width, height = h.height;
  const uint64_t block = tiled ? TIFFTileSize64(tiff) : TIFFStripSize64(tiff);
  if (block == 0) throw_tiff_error(image.name, handle);
  check_tiff_block(image, tiled, block, static_cast<uint64_t>(width * height) * pixels.elemSize());
  std::vector<uint8_t> buffer(block);
  TiffSink sink{pixels, window, h.bits, {}};
  const auto fill_missing = [&](uint32_t index) {
    if (!is_missing_tiff_block(handle, index)) return false;
    fill_tiff_block(buffer, pixels.depth(), h.bits, h.nodata.value_or(0));
    return true;
  };
  const auto bands_a_block = static_cast<size_t>(planes == 1 ? h.bands : 1);
  if (tiled) {
    const auto tile_w = static_cast<int64_t>(handle.tag<uint32_t>(TIFFTAG_TILEWIDTH, 0));
    const auto tile_h = static_cast<int64_t>(handle.tag<uint32_t>(TIFFTAG_TILELENGTH, 0));
    const size_t stride = tiff_row_bytes(static_cast<size_t>(tile_w) * bands_a_block, h.bits);
    if (tile_w == 0 || tile_h == 0 || stride * static_cast<size_t>(tile_h) > block) {
      throw_image_error(image.name, "damaged TIFF file: its tiles have no sensible size");
    }
    for (int plane = 0; plane < planes; ++plane) {
      for (int64_t y = window.y / tile_h * tile_h; y < window.y + window.height; y += tile_h) {
        for (int64_t x = window.x / tile_w * tile_w; x < window.x + window.width; x += tile_w) {
          const uint32_t tile =
              TIFFComputeTile(tiff, static_cast<uint32_t>(x), static_cast<uint32_t>(y), 0,
                              static_cast<uint16_t>(plane));
          if (!fill_missing(tile) &&
              TIFFReadEncodedTile(tiff, tile, buffer.data(), static_cast<tmsize_t>(block)) < 0) {
            throw_tiff_error(image.name, handle);
          }
          const int64_t rows = std::min(tile_h, height - y);
          for (int64_t r = 0; r < rows; ++r) {
            sink.put(buffer.data() + static_cast<size_t>(r) * stride, y + r, x,
                     std::min(tile_w, width - x), planes == 1 ? -1 : plane);
          }
        }
      }
    }
    return;
  }
  const auto rows_a_strip = std::clamp<int64_t>(
      static_cast<int64_t>(handle.tag<uint32_t>(TIFFTAG_ROWSPERSTRIP, h.height)), 1, height);
  const size_t stride = tiff_row_bytes(static_cast<size_t>(width) * bands_a_block, h.bits);
  if (stride * static_cast<size_t>(rows_a_strip) > block) {
    throw_image_error(image.name, "damaged TIFF file: its strips have no sensible size");
  }
  for (int plane = 0; plane < planes; ++plane) {
    for (int64_t y = window.y / rows_a_strip * rows_a_strip; y < window.y + window.height;
         y += rows_a_strip) {
      const int64_t rows = std::min(rows_a_strip, height - y);
      const uint32_t strip =
          TIFFComputeStrip(tiff, static_cast<uint32_t>(y), static_cast<uint16_t>(plane));
      const auto wanted = static_cast<tmsize_t>(stride * static_cast<size_t>(rows));
      if (!fill_missing(strip) &&
          TIFFReadEncodedStrip(tiff, strip, buffer.data(), wanted) < wanted) {
        throw_tiff_error(image.name, handle);
      }
      for (int64_t r = 0; r < rows; ++r) {
        sink.put(buffer.data() + static_cast<size_t>(r) * stride, y + r, 0, width,
                 planes == 1 ? -1 : plane);
      }
    }
  }
}

/// Red and blue of the first three bands change places.
void swap_tiff_red_and_blue(cv::Mat& pixels) {
  const size_t size = pixels.elemSize1(), step = pixels.elemSize();
  uint8_t kept[8];
  for (int y = 0; y < pixels.rows; ++y) {
    uint8_t* at = pixels.ptr(y);
    for (int x = 0; x < pixels.cols; ++x, at += step) {
      std::memcpy(kept, at, size);
      std::memcpy(at, at + 2 * size, size);
      std::memcpy(at + 2 * size, kept, size);
    }
  }
}

}  // namespace seg::detail
