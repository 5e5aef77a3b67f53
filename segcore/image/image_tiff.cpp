/// TIFF through libtiff: strips and tiles, interleaved and planar bands, 1 to 64 bits, any number
/// of bands.
#include <tiffio.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_codecs.hpp"

namespace seg::detail {
namespace {

/// Deflate, LZW and PackBits give at most some 1400 bytes for one.
constexpr uint64_t kTiffRatio = 2048;
/// The others (fax, LZMA, Zstandard, ...) have no useful bound.
constexpr uint64_t kTiffLooseRatio = 1 << 20;
/// One strip or tile may be larger than a small picture.
constexpr uint64_t kTiffFreeBlock = 64ull << 20;

struct TiffSource {
  std::span<const uint8_t> bytes;
  uint64_t at = 0;
  std::string message;  ///< the first error that libtiff tells
};

tmsize_t tiff_take(thandle_t handle, void* to, tmsize_t size) {
  auto* source = static_cast<TiffSource*>(handle);
  if (source->at >= source->bytes.size() || size <= 0) return 0;
  const auto count =
      std::min<uint64_t>(static_cast<uint64_t>(size), source->bytes.size() - source->at);
  std::memcpy(to, source->bytes.data() + source->at, count);
  source->at += count;
  return static_cast<tmsize_t>(count);
}
tmsize_t tiff_refuse_to_write(thandle_t, void*, tmsize_t) { return 0; }
toff_t tiff_seek(thandle_t handle, toff_t offset, int from) {
  auto* source = static_cast<TiffSource*>(handle);
  if (from == SEEK_CUR) offset += source->at;
  if (from == SEEK_END) offset += source->bytes.size();
  source->at = offset;
  return source->at;
}
int tiff_close(thandle_t) { return 0; }
toff_t tiff_size(thandle_t handle) { return static_cast<TiffSource*>(handle)->bytes.size(); }

int tiff_keep_error(TIFF*, void* user, const char* module, const char* format, va_list arguments) {
  auto* source = static_cast<TiffSource*>(user);
  if (source->message.empty()) {
    char text_of[300];
    std::vsnprintf(text_of, sizeof text_of, format, arguments);
    source->message = text_of;
    if (source->message.empty() && module) source->message = module;
  }
  return 1;  // told here, not on the console
}
int tiff_no_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

struct TiffHandle {
  explicit TiffHandle(const EncodedImage& image) {
    source.bytes = image.bytes;
    TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
    TIFFOpenOptionsSetErrorHandlerExtR(options, tiff_keep_error, &source);
    TIFFOpenOptionsSetWarningHandlerExtR(options, tiff_no_warning, nullptr);
    // Tags, tables and codecs' buffers; the pixels' are checked by check_size.
    TIFFOpenOptionsSetMaxSingleMemAlloc(
        options, static_cast<tmsize_t>(kTiffFreeBlock + 64 * image.bytes.size()));
    // "m": no memory mapping, the file is in memory already.
    tiff = TIFFClientOpenExt(image.name.c_str(), "rm", &source, tiff_take, tiff_refuse_to_write,
                             tiff_seek, tiff_close, tiff_size, nullptr, nullptr, options);
    TIFFOpenOptionsFree(options);
  }
  ~TiffHandle() {
    if (tiff) TIFFClose(tiff);
  }
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
};

[[noreturn]] void throw_tiff_error(const std::string& name, const TiffHandle& handle) {
  std::string told = handle.source.message;
  if (told.starts_with(name + ": ")) told.erase(0, name.size() + 2);
  throw_image_error(name, "damaged TIFF file: " + (told.empty() ? "it cannot be decoded" : told));
}

TiffHeader read_tiff_header(const EncodedImage& image, const TiffHandle& handle) {
  if (!handle.tiff) throw_tiff_error(image.name, handle);
  TiffHeader h;
  h.width = handle.tag<uint32_t>(TIFFTAG_IMAGEWIDTH, 0);
  h.height = handle.tag<uint32_t>(TIFFTAG_IMAGELENGTH, 0);
  h.bits = handle.tag<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
  h.bands = handle.tag<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
  h.format = handle.tag<uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  h.planes = handle.tag<uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  h.compression = handle.tag<uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  h.orientation = handle.tag<uint16_t>(TIFFTAG_ORIENTATION, 1);
  h.photometric = handle.tag<uint16_t>(TIFFTAG_PHOTOMETRIC,
                                       h.bands >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  if (h.format == SAMPLEFORMAT_VOID) h.format = SAMPLEFORMAT_UINT;
  uint16_t extra = 0;
  uint16_t* kinds = nullptr;
  if (TIFFGetField(handle.tiff, TIFFTAG_EXTRASAMPLES, &extra, &kinds) && extra > 0 && kinds) {
    h.alpha = kinds[0] == EXTRASAMPLE_ASSOCALPHA || kinds[0] == EXTRASAMPLE_UNASSALPHA;
  }
  return h;
}

/// OpenCV's depth for the samples as they are stored, or an error for kinds that are not read.
int tiff_depth(const EncodedImage& image, const TiffHeader& h) {
  if (h.format == SAMPLEFORMAT_UINT && h.bits < 8 && (h.bits == 1 || h.bits == 2 || h.bits == 4)) {
    return CV_8U;
  }
  if (h.format == SAMPLEFORMAT_UINT) {
    if (h.bits == 8) return CV_8U;
    if (h.bits == 16) return CV_16U;
    if (h.bits == 32) return CV_32S;  // the same bits; told apart when converted
  }
  if (h.format == SAMPLEFORMAT_INT) {
    if (h.bits == 8) return CV_8S;
    if (h.bits == 16) return CV_16S;
    if (h.bits == 32) return CV_32S;
  }
  if (h.format == SAMPLEFORMAT_IEEEFP) {
    if (h.bits == 16) return CV_16F;
    if (h.bits == 32) return CV_32F;
    if (h.bits == 64) return CV_64F;
  }
  const char* format = h.format == SAMPLEFORMAT_UINT     ? "unsigned"
                       : h.format == SAMPLEFORMAT_INT    ? "signed"
                       : h.format == SAMPLEFORMAT_IEEEFP ? "floating point"
                                                         : "complex";
  throw_image_error(image.name, text("TIFF files with ", format, " samples of ", h.bits,
                                     " bits cannot be read; 8, 16 and 32 bits and float can"));
}

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
          if (TIFFReadTile(tiff, buffer.data(), static_cast<uint32_t>(x), static_cast<uint32_t>(y),
                           0, static_cast<uint16_t>(plane)) < 0) {
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
      const tmsize_t got = TIFFReadEncodedStrip(tiff, strip, buffer.data(), wanted);
      if (got < wanted) throw_tiff_error(image.name, handle);
      for (int r = 0; r < rows; ++r) {
        sink.put(buffer.data() + static_cast<size_t>(r) * stride, static_cast<int>(y) + r, 0, width,
                 planes == 1 ? -1 : plane);
      }
    }
  }
}

/// Colour spaces that only libtiff's own conversion knows: YCbCr, CIE L*a*b*, inks.
bool needs_tiff_conversion(const TiffHeader& h) {
  return h.photometric == PHOTOMETRIC_YCBCR || h.photometric == PHOTOMETRIC_CIELAB ||
         h.photometric == PHOTOMETRIC_ICCLAB || h.photometric == PHOTOMETRIC_ITULAB ||
         h.photometric == PHOTOMETRIC_LOGL || h.photometric == PHOTOMETRIC_LOGLUV;
}

cv::Mat convert_tiff_to_bgr(const EncodedImage& image, TiffHandle& handle, const TiffHeader& h) {
  char why[1024] = "";
  if (!TIFFRGBAImageOK(handle.tiff, why)) {
    throw_image_error(image.name, text("this kind of TIFF file cannot be read: ", why));
  }
  std::vector<uint32_t> raster(static_cast<size_t>(h.width) * h.height);
  if (!TIFFReadRGBAImageOriented(handle.tiff, h.width, h.height, raster.data(), ORIENTATION_TOPLEFT,
                                 1)) {
    throw_tiff_error(image.name, handle);
  }
  cv::Mat out(static_cast<int>(h.height), static_cast<int>(h.width), CV_8UC3);
  for (int y = 0; y < out.rows; ++y) {
    const uint32_t* in = raster.data() + static_cast<size_t>(y) * h.width;
    auto* to = out.ptr<uint8_t>(y);
    for (int x = 0; x < out.cols; ++x, to += 3) {
      to[0] = static_cast<uint8_t>(TIFFGetB(in[x]));
      to[1] = static_cast<uint8_t>(TIFFGetG(in[x]));
      to[2] = static_cast<uint8_t>(TIFFGetR(in[x]));
    }
  }
  return out;
}

/// Indices to colours; tables are of 16 bits.
cv::Mat apply_tiff_palette(const EncodedImage& image, const TiffHandle& handle, const TiffHeader& h,
                           const cv::Mat& indices) {
  uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
  if (h.bands != 1 || h.bits > 8 ||
      !TIFFGetField(handle.tiff, TIFFTAG_COLORMAP, &red, &green, &blue)) {
    throw_image_error(image.name, "damaged TIFF file: a palette picture without a palette");
  }
  cv::Mat out(indices.rows, indices.cols, CV_8UC3);
  for (int y = 0; y < out.rows; ++y) {
    const auto* in = indices.ptr<uint8_t>(y);
    auto* to = out.ptr<uint8_t>(y);
    for (int x = 0; x < out.cols; ++x, to += 3) {
      to[0] = static_cast<uint8_t>(blue[in[x]] >> 8);
      to[1] = static_cast<uint8_t>(green[in[x]] >> 8);
      to[2] = static_cast<uint8_t>(red[in[x]] >> 8);
    }
  }
  return out;
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

/// uint32 is held in an int32 matrix.
void widen_tiff_uint32(cv::Mat& pixels) {
  cv::Mat wide(pixels.rows, pixels.cols, CV_MAKETYPE(CV_64F, pixels.channels()));
  const size_t samples = static_cast<size_t>(pixels.cols) * static_cast<size_t>(pixels.channels());
  for (int y = 0; y < pixels.rows; ++y) {
    const auto* in = pixels.ptr<int32_t>(y);
    auto* to = wide.ptr<double>(y);
    for (size_t i = 0; i < samples; ++i) to[i] = static_cast<uint32_t>(in[i]);
  }
  pixels = wide;
}

}  // namespace

Decoded decode_tiff(const EncodedImage& image, PixelForm form, bool file_order) {
  TiffHandle handle(image);
  TiffHeader h = read_tiff_header(image, handle);
  Decoded out;
  out.orientation = h.orientation;
  const bool packed_jpeg = h.compression == COMPRESSION_JPEG && h.photometric == PHOTOMETRIC_YCBCR;
  if (packed_jpeg && h.planes == PLANARCONFIG_CONTIG) {
    TIFFSetField(handle.tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    h.photometric = PHOTOMETRIC_RGB;
  }
  const int depth = tiff_depth(image, h);
  if (h.bands < 1 || h.bands > CV_CN_MAX) {
    throw_image_error(image.name,
                      text("has ", h.bands, " bands; 1 to ", CV_CN_MAX, " can be read"));
  }
  const bool bounded = h.compression == COMPRESSION_NONE || h.compression == COMPRESSION_LZW ||
                       h.compression == COMPRESSION_PACKBITS ||
                       h.compression == COMPRESSION_ADOBE_DEFLATE ||
                       h.compression == COMPRESSION_DEFLATE || h.compression == COMPRESSION_JPEG;
  const uint64_t bits = static_cast<uint64_t>(h.bits) * h.bands;
  const uint64_t ratio = bounded ? kTiffRatio : kTiffLooseRatio;
  check_size(image, h.width, h.height, bits < 8 ? 1 : bits / 8,
             h.compression == COMPRESSION_NONE ? 1 : ratio);
  if (!TIFFIsCODECConfigured(h.compression)) {
    throw_image_error(image.name, text("TIFF compression ", h.compression,
                                       " is not supported by the installed libtiff"));
  }
  if (needs_tiff_conversion(h) ||
      (h.photometric == PHOTOMETRIC_SEPARATED && form != PixelForm::kStored)) {
    out.pixels = convert_tiff_to_bgr(image, handle, h);
    return out;
  }
  out.pixels.create(static_cast<int>(h.height), static_cast<int>(h.width),
                    CV_MAKETYPE(depth, h.bands));
  read_tiff_pixels(image, handle, h, out.pixels);
  const bool small_ints = h.format == SAMPLEFORMAT_UINT && h.bits <= 16;
  const int top = small_ints ? (1 << h.bits) - 1 : 0;
  if (h.photometric == PHOTOMETRIC_MINISWHITE && small_ints) {
    cv::subtract(cv::Scalar::all(top), out.pixels, out.pixels);
  }
  if (form == PixelForm::kLabels) {
    if (h.bits == 32 && h.format == SAMPLEFORMAT_UINT) widen_tiff_uint32(out.pixels);
    return out;
  }
  if (h.photometric == PHOTOMETRIC_PALETTE) {
    out.pixels = apply_tiff_palette(image, handle, h, out.pixels);
    return out;
  }
  if (h.bits < 8) out.pixels *= 255 / top;
  if (h.bits == 32 && h.format == SAMPLEFORMAT_UINT) widen_tiff_uint32(out.pixels);
  // Pictures of three bands are taken for colours whatever they say of themselves; others with
  // more bands than colours have are kept in their order.
  const bool colours = h.bands == 3 || (h.bands == 4 && h.photometric == PHOTOMETRIC_RGB);
  if (colours && !file_order) swap_tiff_red_and_blue(out.pixels);
  if (form == PixelForm::kStored) return out;

  const bool gray_and_alpha = h.bands == 2 && h.alpha;
  if (h.bands != 1 && !colours && !gray_and_alpha) {
    throw_image_error(image.name, text("has ", h.bands,
                                       " bands, of which color_type 'color' would drop some: "
                                       "load it with color_type: unchanged"));
  }
  if (!small_ints) {
    throw_image_error(
        image.name,
        "holds other numbers than uint8 and uint16, which color_type 'color' (8 bits) "
        "cannot keep: load it with color_type: unchanged");
  }
  // As OpenCV, that is as libtiff: the upper 8 bits of grey values, colours rounded.
  if (out.pixels.depth() == CV_16U) {
    cv::Mat narrow(out.pixels.rows, out.pixels.cols, CV_8UC(out.pixels.channels()));
    const size_t samples =
        static_cast<size_t>(narrow.cols) * static_cast<size_t>(narrow.channels());
    for (int y = 0; y < narrow.rows; ++y) {
      const auto* in = out.pixels.ptr<uint16_t>(y);
      auto* to = narrow.ptr<uint8_t>(y);
      for (size_t i = 0; i < samples; ++i) {
        to[i] = static_cast<uint8_t>(colours ? (in[i] + 128) / 257 : in[i] >> 8);
      }
    }
    out.pixels = narrow;
  }
  if (gray_and_alpha) cv::extractChannel(out.pixels, out.pixels, 0);
  return out;
}

ImageInfo tiff_info(const EncodedImage& image) {
  TiffHandle handle(image);
  const TiffHeader h = read_tiff_header(image, handle);
  return {h.height, h.width, h.photometric == PHOTOMETRIC_PALETTE ? 3 : h.bands};
}

}  // namespace seg::detail

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
