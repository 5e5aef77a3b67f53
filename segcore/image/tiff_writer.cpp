/// TIFF files without compression, written by hand.
#include <tiffio.h>

#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/tiff_file.hpp"

namespace seg {
namespace {

/// Little-endian numbers at the end of a file in the making.
struct TiffBytes {
  std::vector<uint8_t> out;
  void number(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  void entry(uint16_t tag, uint16_t type, uint32_t count, uint32_t value) {
    number(tag, 2);
    number(type, 2);
    number(count, 4);
    number(value, 4);
  }
};

}  // namespace

std::vector<uint8_t> encode_tiff(const cv::Mat& image) {
  const int depth = image.depth(), bands = image.channels();
  SEG_CHECK(depth == CV_8U || depth == CV_16U || depth == CV_32F,
            "a TIFF file is written of uint8, uint16 or float32");
  constexpr uint16_t kShort = 3, kLong = 4;
  const size_t row = static_cast<size_t>(image.cols) * image.elemSize();
  const size_t size = row * static_cast<size_t>(image.rows);
  SEG_CHECK(size < 0xFFFF0000u, "a TIFF file holds at most 4 GiB");
  // Header, pixels, tables of bits and formats, directory: what a reader needs, in plain order.
  TiffBytes file;
  file.out.reserve(size + 256 + 4 * static_cast<size_t>(bands));
  file.number(0x4949, 2);  // "II": little-endian
  file.number(42, 2);
  const uint32_t tables = static_cast<uint32_t>(8 + size + size % 2);
  const uint32_t table_size = bands > 2 ? 2 * static_cast<uint32_t>(bands) : 0;
  file.number(tables + 2 * table_size, 4);
  const bool colours = bands == 3 || bands == 4;
  cv::Mat ordered = image;
  if (colours) {
    ordered = image.clone();
    detail::swap_tiff_red_and_blue(ordered);
  }
  for (int y = 0; y < image.rows; ++y) {
    const uint8_t* at = ordered.ptr(y);
    file.out.insert(file.out.end(), at, at + row);
  }
  if (size % 2) file.number(0, 1);
  const uint32_t bits = static_cast<uint32_t>(8 * image.elemSize1());
  const uint32_t format = depth == CV_32F ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT;
  // Up to two shorts stand in the entry itself.
  const auto inline_pair = [&](uint32_t v) { return bands == 2 ? v | v << 16 : v; };
  if (bands > 2) {
    for (const uint32_t v : {bits, format}) {
      for (int b = 0; b < bands; ++b) file.number(v, 2);
    }
  }
  const auto count = static_cast<uint32_t>(bands);
  const uint32_t extra = bands == 4 ? 1 : colours || bands == 1 ? 0 : count - 1;
  file.number(extra == 1 || extra == 2 ? 12 : 11, 2);
  file.entry(TIFFTAG_IMAGEWIDTH, kLong, 1, static_cast<uint32_t>(image.cols));
  file.entry(TIFFTAG_IMAGELENGTH, kLong, 1, static_cast<uint32_t>(image.rows));
  file.entry(TIFFTAG_BITSPERSAMPLE, kShort, count, bands > 2 ? tables : inline_pair(bits));
  file.entry(TIFFTAG_COMPRESSION, kShort, 1, COMPRESSION_NONE);
  file.entry(TIFFTAG_PHOTOMETRIC, kShort, 1, colours ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  file.entry(TIFFTAG_STRIPOFFSETS, kLong, 1, 8);
  file.entry(TIFFTAG_SAMPLESPERPIXEL, kShort, 1, count);
  file.entry(TIFFTAG_ROWSPERSTRIP, kLong, 1, static_cast<uint32_t>(image.rows));
  file.entry(TIFFTAG_STRIPBYTECOUNTS, kLong, 1, static_cast<uint32_t>(size));
  file.entry(TIFFTAG_PLANARCONFIG, kShort, 1, PLANARCONFIG_CONTIG);
  if (extra == 1 || extra == 2) file.entry(TIFFTAG_EXTRASAMPLES, kShort, extra, 0);
  file.entry(TIFFTAG_SAMPLEFORMAT, kShort, count,
             bands > 2 ? tables + table_size : inline_pair(format));
  file.number(0, 4);  // no further directory
  return std::move(file.out);
}

}  // namespace seg
