/// PNG through libpng. Palettes stay indices where labels are read.
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/eight_bits.hpp"
#include "segcore/image/image_codecs.hpp"
#include "segcore/image/png_chunks.hpp"
#include "segcore/image/png_plain.hpp"

namespace seg::detail {
namespace {

/// Deflate packs at most 1032 bytes into one.
constexpr uint64_t kPngRatio = 1100;

struct PngSource {
  const uint8_t* bytes;
  size_t left;
  char message[200];
};

void png_take(png_structp png, png_bytep to, size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->left) png_error(png, "the file ends before the picture does");
  std::memcpy(to, source->bytes, size);
  source->bytes += size;
  source->left -= size;
}

void png_stop(png_structp png, png_const_charp message) {
  auto* kept = static_cast<char*>(png_get_error_ptr(png));
  std::strncpy(kept, message, sizeof(PngSource::message) - 1);
  png_longjmp(png, 1);
}

void png_no_warning(png_structp, png_const_charp) {}

struct PngHeader {
  png_uint_32 width = 0, height = 0;
  int depth = 0, color = 0;
  bool transparent = false;  ///< has a tRNS chunk
  bool interlaced = false;
};

/// Owns the decoder. Between setjmp and longjmp there may be no C++ object with a destructor, so
/// the steps below hold none.
struct PngReader {
  PngSource source{};
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit PngReader(std::span<const uint8_t> bytes) {
    source.bytes = bytes.data();
    source.left = bytes.size();
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, source.message, png_stop, png_no_warning);
    SEG_CHECK(png, "libpng cannot be initialised");
    info = png_create_info_struct(png);
    png_set_read_fn(png, &source, png_take);
    png_set_user_limits(png, 0x7FFFFFFF, 0x7FFFFFFF);  // check_size knows better
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header(PngHeader& out) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_info(png, info);
    int interlace = 0;
    png_get_IHDR(png, info, &out.width, &out.height, &out.depth, &out.color, &interlace, nullptr,
                 nullptr);
    out.interlaced = interlace != PNG_INTERLACE_NONE;
    out.transparent = png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    return true;
  }

  /// Requests the form; returns its bands and bits, 0 bands where libpng refuses.
  bool prepare(const PngHeader& header, PixelForm form, int& bands, int& depth) {
    if (setjmp(png_jmpbuf(png))) return false;
    const bool palette = header.color == PNG_COLOR_TYPE_PALETTE;
    const bool gray = !(header.color & PNG_COLOR_MASK_COLOR);
    if (form == PixelForm::kLabels) {
      if (header.depth < 8) png_set_packing(png);  // spread to bytes, values unchanged
      if (gray) png_set_strip_alpha(png);
    } else {
      if (palette) png_set_palette_to_rgb(png);
      if (gray && header.depth < 8) png_set_expand_gray_1_2_4_to_8(png);
      if (form == PixelForm::kStored) {
        if (palette && header.transparent) png_set_tRNS_to_alpha(png);
        if (header.color == PNG_COLOR_TYPE_GRAY_ALPHA) png_set_gray_to_rgb(png);
      } else {
        png_set_strip_alpha(png);
        if (form == PixelForm::kColor) png_set_gray_to_rgb(png);
        if (form == PixelForm::kGray && !gray) png_set_rgb_to_gray(png, 1, 0.299, 0.587);
      }
      png_set_bgr(png);
    }
    // Files are big-endian.
    if (header.depth == 16) png_set_swap(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    bands = png_get_channels(png, info);
    depth = png_get_bit_depth(png, info);
    return true;
  }

  bool read_pixels(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_image(png, rows);
    png_read_end(png, info);
    return true;
  }
};

/// Wherever it stands: before the pixels or behind them.
int png_orientation(std::span<const uint8_t> file) {
  PngChunks chunks(file);
  while (const auto chunk = chunks.next()) {
    if (chunk->type == "eXIf" && chunk->is_whole()) return exif_orientation(chunk->data);
  }
  return 1;
}

[[noreturn]] void throw_png_error(const std::string& name, const PngReader& reader) {
  throw_image_error(name, text("damaged PNG file: ", reader.source.message));
}

int png_stored_bands(const PngHeader& header) {
  switch (header.color) {
    case PNG_COLOR_TYPE_GRAY:
      return 1;
    case PNG_COLOR_TYPE_RGB:
      return 3;
    case PNG_COLOR_TYPE_PALETTE:
      return header.transparent ? 4 : 3;
    default:
      return 4;
  }
}

/// Whether the pixels of the form are those that are stored, 8 bits each.
bool is_plain(const PngHeader& header, PixelForm form) {
  if (header.depth != 8 || header.interlaced || header.transparent) return false;
  switch (header.color) {
    case PNG_COLOR_TYPE_GRAY:
      return form != PixelForm::kColor;
    case PNG_COLOR_TYPE_PALETTE:
      return form == PixelForm::kLabels;
    case PNG_COLOR_TYPE_RGB:
      return form == PixelForm::kColor || form == PixelForm::kStored;
    default:
      return false;
  }
}

}  // namespace

Decoded decode_png(const EncodedImage& image, PixelForm form) {
  PngReader reader(image.bytes);
  PngHeader header;
  if (!reader.read_header(header)) throw_png_error(image.name, reader);
  const auto bits = static_cast<uint64_t>(header.depth) * png_get_channels(reader.png, reader.info);
  check_size(image, header.width, header.height, bits < 8 ? 1 : bits / 8,
             bits < 8 ? kPngRatio * 8 / bits : kPngRatio);
  const cv::Rect all(0, 0, static_cast<int>(header.width), static_cast<int>(header.height));
  const cv::Rect window = image.window.value_or(all);
  Decoded out;
  out.orientation = png_orientation(image.bytes);
  if (window != all) check_window(image, all.width, all.height, out.orientation);
  if (is_plain(header, form)) {
    const PlainPng plain{all.width, all.height, png_get_channels(reader.png, reader.info)};
    out.pixels = decode_plain_png(image.bytes, plain, window);
    if (!out.pixels.empty()) return out;
  }
  int bands = 0, depth = 0;
  if (!reader.prepare(header, form, bands, depth)) throw_png_error(image.name, reader);
  out.pixels.create(static_cast<int>(header.height), static_cast<int>(header.width),
                    CV_MAKETYPE(depth == 16 ? CV_16U : CV_8U, bands));
  std::vector<png_bytep> rows(header.height);
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = out.pixels.ptr(static_cast<int>(y));
  if (!reader.read_pixels(rows.data())) throw_png_error(image.name, reader);
  if (form == PixelForm::kColor || form == PixelForm::kGray) {
    out.pixels = to_eight_bits(image, out.pixels, Narrowing::kUpperBits);
  }
  if (window != all) out.pixels = out.pixels(window).clone();
  return out;
}

ImageInfo png_info(const EncodedImage& image) {
  PngReader reader(image.bytes);
  PngHeader header;
  if (!reader.read_header(header)) throw_png_error(image.name, reader);
  return {.height = header.height,
          .width = header.width,
          .bands = png_stored_bands(header),
          .format = "PNG",
          .orientation = png_orientation(image.bytes)};
}

}  // namespace seg::detail

namespace seg {
namespace {

void png_collect(png_structp png, png_bytep bytes, size_t size) {
  auto* out = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
  out->insert(out->end(), bytes, bytes + size);
}
void png_no_flush(png_structp) {}

struct PngWriter {
  char message[sizeof(detail::PngSource::message)]{};
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::vector<uint8_t> bytes;

  PngWriter() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, message, detail::png_stop,
                                  detail::png_no_warning);
    SEG_CHECK(png, "libpng cannot be initialised");
    info = png_create_info_struct(png);
    png_set_write_fn(png, &bytes, png_collect, png_no_flush);
    // Pictures are many and large; level 3 takes a third of the time of level 6 for 5% more bytes.
    png_set_compression_level(png, 3);
  }
  ~PngWriter() { png_destroy_write_struct(&png, &info); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  bool write(png_bytepp rows, int width, int height, int depth, int color, const png_color* palette,
             int palette_size) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
                 depth, color, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (palette) png_set_PLTE(png, info, palette, palette_size);
    png_write_info(png, info);
    if (color & PNG_COLOR_MASK_COLOR && !palette) png_set_bgr(png);
    if (depth == 16) png_set_swap(png);
    png_write_image(png, rows);
    png_write_end(png, info);
    return true;
  }
};

std::vector<uint8_t> encode_png_rows(const cv::Mat& image, int color, const png_color* palette,
                                     int palette_size) {
  PngWriter writer;
  std::vector<png_bytep> rows(static_cast<size_t>(image.rows));
  for (int y = 0; y < image.rows; ++y)
    rows[static_cast<size_t>(y)] = const_cast<uint8_t*>(image.ptr(y));
  if (!writer.write(rows.data(), image.cols, image.rows, image.depth() == CV_16U ? 16 : 8, color,
                    palette, palette_size)) {
    throw DataError(text("cannot encode as PNG: ", writer.message));
  }
  return std::move(writer.bytes);
}

}  // namespace

std::vector<uint8_t> encode_png(const cv::Mat& image) {
  const int bands = image.channels();
  SEG_CHECK((image.depth() == CV_8U || image.depth() == CV_16U) &&
                (bands == 1 || bands == 3 || bands == 4),
            "a PNG file holds 1, 3 or 4 bands of uint8 or uint16");
  const int color = bands == 1   ? PNG_COLOR_TYPE_GRAY
                    : bands == 3 ? PNG_COLOR_TYPE_RGB
                                 : PNG_COLOR_TYPE_RGB_ALPHA;
  return encode_png_rows(image, color, nullptr, 0);
}

std::vector<uint8_t> encode_palette_png(const cv::Mat& labels,
                                        const std::vector<std::array<int, 3>>& palette) {
  SEG_CHECK(labels.type() == CV_8UC1, "a palette PNG holds one band of uint8");
  SEG_CHECK(palette.size() <= 256, "a palette has at most 256 entries, got ", palette.size());
  // All 256, so that ignored pixels (255) have a colour too: white.
  std::vector<png_color> colors(256, png_color{255, 255, 255});
  for (size_t i = 0; i < palette.size(); ++i) {
    colors[i] = {static_cast<png_byte>(palette[i][0]), static_cast<png_byte>(palette[i][1]),
                 static_cast<png_byte>(palette[i][2])};
  }
  return encode_png_rows(labels, PNG_COLOR_TYPE_PALETTE, colors.data(), 256);
}

}  // namespace seg
