/// TIFF through libtiff: strips and tiles, interleaved and planar bands, 1 to 64 bits, any number
/// of bands.
#include <tiffio.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <vector>

#include "registry/error.hpp"
#include "segcore/image/eight_bits.hpp"
#include "segcore/image/image_codecs.hpp"
#include "segcore/image/tiff_file.hpp"

namespace seg::detail {
namespace {

/// Deflate, LZW and PackBits give at most some 1400 bytes for one.
constexpr uint64_t kTiffRatio = 2048;
/// The others (fax, LZMA, Zstandard, ...) have no useful bound.
constexpr uint64_t kTiffLooseRatio = 1 << 20;
/// Files without some of their strips or tiles have none at all. This is a picture of 10000x10000
/// pixels of ten bytes.
constexpr uint64_t kTiffSparseBytes = 1 << 30;

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
  const cv::Rect window = tiff_window(image, h);
  // Of planes whole rows: libtiff 4.5 skips columns of them as if their bands were interleaved.
  const bool planes = h.planes == PLANARCONFIG_SEPARATE;
  const auto width = planes ? h.width : static_cast<uint32_t>(window.width);
  const auto height = static_cast<uint32_t>(window.height);
  std::vector<uint32_t> raster(static_cast<size_t>(width) * height);
  TIFFRGBAImage conversion;
  if (!TIFFRGBAImageBegin(&conversion, handle.tiff, /*stop=*/1, why)) {
    throw_image_error(image.name, text("this kind of TIFF file cannot be read: ", why));
  }
  conversion.req_orientation = ORIENTATION_TOPLEFT;
  conversion.row_offset = window.y;
  conversion.col_offset = planes ? 0 : window.x;
  const int done = TIFFRGBAImageGet(&conversion, raster.data(), width, height);
  TIFFRGBAImageEnd(&conversion);
  if (!done) throw_tiff_error(image.name, handle);
  cv::Mat out(window.height, window.width, CV_8UC3);
  for (int y = 0; y < out.rows; ++y) {
    const uint32_t* in = raster.data() + static_cast<size_t>(y) * width + (planes ? window.x : 0);
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

/// Bytes of pixels that a byte of the file may stand for.
uint64_t largest_tiff_ratio(const EncodedImage& image, const TiffHandle& handle,
                            const TiffHeader& h) {
  const bool bounded = h.compression == COMPRESSION_NONE || h.compression == COMPRESSION_LZW ||
                       h.compression == COMPRESSION_PACKBITS ||
                       h.compression == COMPRESSION_ADOBE_DEFLATE ||
                       h.compression == COMPRESSION_DEFLATE || h.compression == COMPRESSION_JPEG;
  uint64_t ratio = bounded ? kTiffRatio : kTiffLooseRatio;
  if (h.compression == COMPRESSION_NONE) ratio = 1;
  // What is left out takes no bytes of the file.
  if (count_missing_tiff_blocks(handle) > 0) {
    ratio = std::max(ratio, kTiffSparseBytes / image.size());
  }
  return ratio;
}

/// Refuses what is not read before memory is taken for it.
void check_tiff_claims(const EncodedImage& image, const TiffHandle& handle, const TiffHeader& h) {
  if (h.bands < 1 || h.bands > CV_CN_MAX) {
    throw_image_error(image.name,
                      text("has ", h.bands, " bands; 1 to ", CV_CN_MAX, " can be read"));
  }
  if (image.window) {
    check_window(image, h.width, h.height, h.orientation);
  } else {
    const uint64_t bits = static_cast<uint64_t>(h.bits) * h.bands;
    check_size(image, h.width, h.height, std::max<uint64_t>(bits / 8, 1),
               largest_tiff_ratio(image, handle, h));
  }
  if (!TIFFIsCODECConfigured(h.compression)) {
    throw_image_error(image.name, text("TIFF compression ", h.compression,
                                       " is not supported by the installed libtiff"));
  }
}

/// Samples of 8 bits for 1 to 4 bands.
/// \param colours  the bands are colours; else grey values.
cv::Mat tiff_to_bytes(const EncodedImage& image, const TiffHeader& h, cv::Mat pixels,
                      bool colours) {
  const bool gray_and_alpha = h.bands == 2 && h.alpha;
  if (h.bands != 1 && !colours && !gray_and_alpha) {
    throw_image_error(image.name, text("has ", h.bands,
                                       " bands, of which color_type 'color' would drop some: "
                                       "load it with color_type: unchanged"));
  }
  if (h.format != SAMPLEFORMAT_UINT || h.bits > 16) {
    throw_image_error(
        image.name,
        "holds other numbers than uint8 and uint16, which color_type 'color' (8 bits) "
        "cannot keep: load it with color_type: unchanged");
  }
  // As OpenCV, that is as libtiff: the upper 8 bits of grey values, colours rounded.
  pixels = to_eight_bits(image, pixels, colours ? Narrowing::kRounded : Narrowing::kUpperBits);
  if (gray_and_alpha) cv::extractChannel(pixels, pixels, 0);
  return pixels;
}

}  // namespace

Decoded decode_tiff(const EncodedImage& image, PixelForm form, bool file_order,
                    std::optional<int64_t> page) {
  TiffHandle handle(image);
  choose_tiff_page(image, handle, page, form == PixelForm::kLabels);
  TiffHeader h = read_tiff_header(image, handle);
  Decoded out;
  out.orientation = h.orientation;
  out.nodata = h.nodata;
  const bool packed_jpeg = h.compression == COMPRESSION_JPEG && h.photometric == PHOTOMETRIC_YCBCR;
  if (packed_jpeg && h.planes == PLANARCONFIG_CONTIG) {
    TIFFSetField(handle.tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    h.photometric = PHOTOMETRIC_RGB;
  }
  const int depth = tiff_depth(image, h);
  check_tiff_claims(image, handle, h);
  if (needs_tiff_conversion(h) ||
      (h.photometric == PHOTOMETRIC_SEPARATED && form != PixelForm::kStored)) {
    out.pixels = convert_tiff_to_bgr(image, handle, h);
    return out;
  }
  const cv::Rect window = tiff_window(image, h);
  out.pixels.create(window.height, window.width, CV_MAKETYPE(depth, h.bands));
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

  out.pixels = tiff_to_bytes(image, h, out.pixels, colours);
  return out;
}

ImageInfo tiff_info(const EncodedImage& image) {
  TiffHandle handle(image);
  const TiffHeader h = read_tiff_header(image, handle);
  return {.height = h.height,
          .width = h.width,
          .bands = h.photometric == PHOTOMETRIC_PALETTE ? 3 : h.bands,
          .format = "TIFF",
          .orientation = h.orientation,
          .lossy = h.compression == COMPRESSION_JPEG,
          .floats = h.format == SAMPLEFORMAT_IEEEFP,
          .nodata = h.nodata};
}

}  // namespace seg::detail
