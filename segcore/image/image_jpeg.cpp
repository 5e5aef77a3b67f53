/// JPEG through libjpeg-turbo, with the settings of OpenCV: the accurate integer transform and
/// smooth upsampling, so that pixels are equal to those of cv2.imdecode.
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <opencv2/core.hpp>
// After <cstdio>, which it needs.
#include <jerror.h>
#include <jpeglib.h>

#include "registry/error.hpp"
#include "segcore/image/image_codecs.hpp"
#include "segcore/image/image_notes.hpp"

namespace seg::detail {
namespace {

constexpr size_t kJpegMessageSize = JMSG_LENGTH_MAX;
/// A progressive file of a few bytes can demand any number of passes over the picture; real ones
/// have some ten.
constexpr int kJpegMaxScans = 500;
/// A flat area takes no fewer than one bit a block of 64 values and band.
constexpr uint64_t kJpegRatio = 2048;

/// Columns that are decoded on both sides of a window: two of the widest units (MCUs), since the
/// decoder smooths colours, and blocks of progressive files that are not complete.
constexpr int kJpegMargin = 64;

struct JpegErrors {
  jpeg_error_mgr manager;  // first: libjpeg hands back its address
  jmp_buf jump;
  char message[kJpegMessageSize];
  bool damaged;  ///< pixels are lost
  bool ended;    ///< the file ends without the marker of an end
};

void jpeg_stop(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  info->err->format_message(info, errors->message);
  longjmp(errors->jump, 1);
}

/// Warnings that mean lost pixels make the file a damaged one; the others (unknown versions,
/// bytes between markers) are of no consequence. An end that comes too early is one of them only
/// where the decoder then lacks bits.
void jpeg_note(j_common_ptr info, int level) {
  if (level >= 0) return;
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
      errors->ended = true;
      break;
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
      if (!errors->damaged) info->err->format_message(info, errors->message);
      errors->damaged = true;
      break;
    default:
      break;
  }
}

void jpeg_count_scans(j_common_ptr info) {
  auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (decoder->input_scan_number <= kJpegMaxScans) return;
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  std::snprintf(errors->message, sizeof errors->message, "more than %d progressive scans",
                kJpegMaxScans);
  longjmp(errors->jump, 1);
}

/// Owns the decoder. Between setjmp and longjmp there may be no C++ object with a destructor, so
/// the steps below hold none.
struct JpegReader {
  jpeg_decompress_struct decoder{};
  JpegErrors errors{};
  jpeg_progress_mgr progress{};

  JpegReader() {
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = jpeg_stop;
    errors.manager.emit_message = jpeg_note;
    progress.progress_monitor = jpeg_count_scans;
  }
  ~JpegReader() { jpeg_destroy_decompress(&decoder); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header(const uint8_t* bytes, size_t size) {
    if (setjmp(errors.jump)) return false;
    jpeg_create_decompress(&decoder);
    decoder.progress = &progress;
    jpeg_mem_src(&decoder, bytes, static_cast<unsigned long>(size));
    jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);  // EXIF
    return jpeg_read_header(&decoder, TRUE) == JPEG_HEADER_OK;
  }
  bool read_pixels(uint8_t* pixels, size_t stride) {
    if (setjmp(errors.jump)) return false;
    jpeg_start_decompress(&decoder);
    while (decoder.output_scanline < decoder.output_height) {
      JSAMPROW row = pixels + decoder.output_scanline * stride;
      jpeg_read_scanlines(&decoder, &row, 1);
    }
    if (errors.ended && !all_scans_seen()) errors.damaged = true;
    jpeg_finish_decompress(&decoder);
    return !errors.damaged;
  }
  /// \param row  space for a whole row.
  bool read_window(const cv::Rect& window, uint8_t* pixels, size_t stride, uint8_t* row) {
    if (setjmp(errors.jump)) return false;
    jpeg_start_decompress(&decoder);
    if (errors.ended && !all_scans_seen()) errors.damaged = true;
    const int begin = std::max(0, window.x - kJpegMargin);
    const int end =
        std::min(static_cast<int>(decoder.output_width), window.x + window.width + kJpegMargin);
    auto first = static_cast<JDIMENSION>(begin), columns = static_cast<JDIMENSION>(end - begin);
    jpeg_crop_scanline(&decoder, &first, &columns);
    const auto bands = static_cast<size_t>(decoder.output_components);
    const size_t before = (static_cast<size_t>(window.x) - first) * bands;
    jpeg_skip_scanlines(&decoder, static_cast<JDIMENSION>(window.y));
    for (int y = 0; y < window.height; ++y) {
      jpeg_read_scanlines(&decoder, &row, 1);
      std::memcpy(pixels + static_cast<size_t>(y) * stride, row + before,
                  static_cast<size_t>(window.width) * bands);
    }
    jpeg_abort_decompress(&decoder);
    return !errors.damaged;
  }

 private:
  /// Of a file of several scans whose end is missing: whether there are coefficients of every band
  /// and, where scans refine them, with all of their bits.
  bool all_scans_seen() const {
    for (int band = 0; band < decoder.num_components; ++band) {
      if (!decoder.comp_info[band].quant_table) return false;  // set by the band's first scan
      if (!decoder.coef_bits) continue;
      for (const int bits_left : decoder.coef_bits[band]) {
        if (bits_left != 0) return false;
      }
    }
    return true;
  }
};

int jpeg_orientation(const JpegReader& reader) {
  constexpr uint8_t kExif[] = {'E', 'x', 'i', 'f', 0, 0};
  for (auto* marker = reader.decoder.marker_list; marker; marker = marker->next) {
    if (marker->marker != JPEG_APP0 + 1 || marker->data_length < sizeof kExif) continue;
    if (std::memcmp(marker->data, kExif, sizeof kExif) != 0) continue;
    return exif_orientation({marker->data + sizeof kExif, marker->data_length - sizeof kExif});
  }
  return 1;
}

/// Inks of Adobe's files, which are stored inverted, on white paper.
cv::Mat jpeg_inks_to_bgr(const cv::Mat& inks) {
  cv::Mat out(inks.rows, inks.cols, CV_8UC3);
  for (int y = 0; y < inks.rows; ++y) {
    const uint8_t* in = inks.ptr<uint8_t>(y);
    uint8_t* to = out.ptr<uint8_t>(y);
    for (int x = 0; x < inks.cols; ++x, in += 4, to += 3) {
      const int black = in[3];
      for (int c = 0; c < 3; ++c) {
        to[2 - c] = static_cast<uint8_t>(black - (((255 - in[c]) * black) >> 8));
      }
    }
  }
  return out;
}

[[noreturn]] void throw_jpeg_error(const std::string& name, const JpegReader& reader) {
  std::string what = reader.errors.message;
  if (reader.errors.ended) what = "the file ends before the picture does";
  throw_image_error(name, "damaged JPEG file: " + what);
}

}  // namespace

Decoded decode_jpeg(const EncodedImage& image, PixelForm form) {
  JpegReader reader;
  if (!reader.read_header(image.bytes.data(), image.bytes.size())) {
    throw_jpeg_error(image.name, reader);
  }
  auto& decoder = reader.decoder;
  const int stored = decoder.num_components;
  check_size(image, decoder.image_width, decoder.image_height, static_cast<uint64_t>(stored),
             kJpegRatio);
  int bands = 3;
  if (stored == 4) {
    bands = 4;
    decoder.out_color_space = JCS_CMYK;
  } else if (form == PixelForm::kGray || (stored == 1 && form != PixelForm::kColor)) {
    bands = 1;
    decoder.out_color_space = JCS_GRAYSCALE;
  } else {
    decoder.out_color_space = JCS_EXT_BGR;
  }
  Decoded out;
  out.orientation = jpeg_orientation(reader);
  const cv::Rect all(0, 0, static_cast<int>(decoder.image_width),
                     static_cast<int>(decoder.image_height));
  const cv::Rect window = image.window.value_or(all);
  out.pixels.create(window.height, window.width, CV_8UC(bands));
  if (window == all) {
    if (!reader.read_pixels(out.pixels.data, out.pixels.step)) throw_jpeg_error(image.name, reader);
  } else {
    check_window(image, all.width, all.height, out.orientation);
    std::vector<uint8_t> row(static_cast<size_t>(all.width * bands));
    if (!reader.read_window(window, out.pixels.data, out.pixels.step, row.data())) {
      throw_jpeg_error(image.name, reader);
    }
  }
  if (reader.errors.ended) {
    note_image(ImageNote::kNoEndMarker, image.name, [] {
      return std::string(
          "the end of the JPEG file is missing, but none of its pixels; it is used as it is");
    });
  }
  if (bands == 4) out.pixels = jpeg_inks_to_bgr(out.pixels);
  return out;
}

ImageInfo jpeg_info(const EncodedImage& image) {
  JpegReader reader;
  if (!reader.read_header(image.bytes.data(), image.bytes.size())) {
    throw_jpeg_error(image.name, reader);
  }
  return {.height = reader.decoder.image_height,
          .width = reader.decoder.image_width,
          .bands = reader.decoder.num_components == 1 ? 1 : 3,
          .format = "JPEG",
          .orientation = jpeg_orientation(reader),
          .lossy = true};
}

}  // namespace seg::detail

namespace seg {
namespace {

struct JpegWriter {
  jpeg_compress_struct encoder{};
  detail::JpegErrors errors{};
  unsigned char* bytes = nullptr;
  unsigned long size = 0;

  JpegWriter() {
    encoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = detail::jpeg_stop;
    errors.manager.emit_message = detail::jpeg_note;
  }
  ~JpegWriter() {
    jpeg_destroy_compress(&encoder);
    free(bytes);
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

  bool write(const uint8_t* pixels, size_t stride, int width, int height, int bands, int quality) {
    if (setjmp(errors.jump)) return false;
    jpeg_create_compress(&encoder);
    jpeg_mem_dest(&encoder, &bytes, &size);
    encoder.image_width = static_cast<JDIMENSION>(width);
    encoder.image_height = static_cast<JDIMENSION>(height);
    encoder.input_components = bands;
    encoder.in_color_space = bands == 1 ? JCS_GRAYSCALE : JCS_EXT_BGR;
    jpeg_set_defaults(&encoder);
    jpeg_set_quality(&encoder, quality, TRUE);
    jpeg_start_compress(&encoder, TRUE);
    while (encoder.next_scanline < encoder.image_height) {
      JSAMPROW row = const_cast<uint8_t*>(pixels) + encoder.next_scanline * stride;
      jpeg_write_scanlines(&encoder, &row, 1);
    }
    jpeg_finish_compress(&encoder);
    return true;
  }
};

}  // namespace

std::vector<uint8_t> encode_jpeg(const cv::Mat& image, int quality) {
  SEG_CHECK(image.type() == CV_8UC1 || image.type() == CV_8UC3,
            "a JPEG file holds 1 or 3 bands of uint8");
  JpegWriter writer;
  const bool good =
      writer.write(image.data, image.step, image.cols, image.rows, image.channels(), quality);
  if (!good) throw DataError(text("cannot encode as JPEG: ", writer.errors.message));
  return {writer.bytes, writer.bytes + writer.size};
}

}  // namespace seg
