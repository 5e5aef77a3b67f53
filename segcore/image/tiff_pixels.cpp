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

/// Puts decoded rows of a strip or tile into the picture.
struct TiffSink {
  cv::Mat& pixels;
  int bits;
  std::vector<uint8_t> spread;

  /// \param count  pixels; `plane` < 0: all bands interleaved.
  void put(const uint8_t* row, int y, int x, int count, int plane) {
    const int bands = pixels.channels();
    const size_t samples = static_cast<size_t>(count) * static_cast<size_t>(plane < 0 ? bands : 1);
    if (bits < 8) {
      spread.resize(samples);
      unpack_tiff_bits(row, spread.data(), samples, bits);
      row = spread.data();
    }
    const size_t size = pixels.elemSize1();
    uint8_t* to = pixels.ptr(y) + static_cast<size_t>(x) * pixels.elemSize();
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

}  // namespace

void read_tiff_pixels(const EncodedImage& image, const TiffHandle& handle, const TiffHeader& h,
                      cv::Mat& pixels) {
  TIFF* tiff = handle.tiff;
  const bool tiled = TIFFIsTiled(tiff) != 0;
  const int planes = h.planes == PLANARCONFIG_SEPARATE ? h.bands : 1;
  const auto width = static_cast<int>(h.width), height = static_cast<int>(h.height);
  const uint64_t picture = pixels.total() * pixels.elemSize();
  const uint64_t block = tiled ? TIFFTileSize64(tiff) : TIFFStripSize64(tiff);
  if (block == 0) throw_tiff_error(image.name, handle);
  if (block > std::max<uint64_t>(kTiffFreeBlock, 2 * picture)) {
    throw_image_error(image.name, text("damaged TIFF file: a ", tiled ? "tile" : "strip", " of ",
                                       block, " bytes for a picture of ", picture));
  }
  std::vector<uint8_t> buffer(block);
  TiffSink sink{pixels, h.bits, {}};
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
      for (int64_t y = 0; y < height; y += tile_h) {
        for (int64_t x = 0; x < width; x += tile_w) {
          const uint32_t tile =
              TIFFComputeTile(tiff, static_cast<uint32_t>(x), static_cast<uint32_t>(y), 0,
                              static_cast<uint16_t>(plane));
          if (!fill_missing(tile) &&
              TIFFReadEncodedTile(tiff, tile, buffer.data(), static_cast<tmsize_t>(block)) < 0) {
            throw_tiff_error(image.name, handle);
          }
          const auto rows = static_cast<int>(std::min<int64_t>(tile_h, height - y));
          const auto columns = static_cast<int>(std::min<int64_t>(tile_w, width - x));
          for (int r = 0; r < rows; ++r) {
            sink.put(buffer.data() + static_cast<size_t>(r) * stride, static_cast<int>(y) + r,
                     static_cast<int>(x), columns, planes == 1 ? -1 : plane);
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
    for (int64_t y = 0; y < height; y += rows_a_strip) {
      const auto rows = static_cast<int>(std::min<int64_t>(rows_a_strip, height - y));
      const uint32_t strip =
          TIFFComputeStrip(tiff, static_cast<uint32_t>(y), static_cast<uint16_t>(plane));
      const auto wanted = static_cast<tmsize_t>(stride * static_cast<size_t>(rows));
      if (!fill_missing(strip) &&
          TIFFReadEncodedStrip(tiff, strip, buffer.data(), wanted) < wanted) {
        throw_tiff_error(image.name, handle);
      }
      for (int r = 0; r < rows; ++r) {
        sink.put(buffer.data() + static_cast<size_t>(r) * stride, static_cast<int>(y) + r, 0, width,
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
