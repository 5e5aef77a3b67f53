#include "segcore/image/raster_writer.hpp"

#include <tiffio.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <opencv2/core.hpp>
#include <utility>

#include "registry/error.hpp"
#include "segcore/image/geo_tags.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct RasterWriter::File {
  explicit File(const std::string& name) : path(name), out(name) {}
  ~File() {
    if (tiff) TIFFClose(tiff);
  }
  /// Reports what the file system said, or else libtiff. \throws FileError
  [[noreturn]] void fail() {
    if (trouble) std::rethrow_exception(trouble);
    throw FileError(text("cannot write ", path, ": ", message));
  }

  std::string path, message;
  AtomicFile out;
  uint64_t at = 0;
  std::exception_ptr trouble;  ///< no exception goes through libtiff
  TIFF* tiff = nullptr;
};

namespace {

/// Runs a file operation for libtiff, which is told of a failure by `failed`.
template <class File, class Operation>
tmsize_t without_exceptions(File& file, const Operation& operation) {
  try {
    return static_cast<tmsize_t>(operation());
  } catch (...) {
    if (!file.trouble) file.trouble = std::current_exception();
    return -1;
  }
}

template <class File>
struct WriterCalls {
  static tmsize_t read(thandle_t handle, void* to, tmsize_t size) {
    auto& file = *static_cast<File*>(handle);
    return without_exceptions(file, [&] {
      const size_t got = file.out.read_at(file.at, to, static_cast<size_t>(size));
      file.at += got;
      return got;
    });
  }
  static tmsize_t write(thandle_t handle, void* from, tmsize_t size) {
    auto& file = *static_cast<File*>(handle);
    return without_exceptions(file, [&] {
      file.out.write_at(file.at, from, static_cast<size_t>(size));
      file.at += static_cast<uint64_t>(size);
      return size;
    });
  }
  static toff_t seek(thandle_t handle, toff_t offset, int from) {
    auto& file = *static_cast<File*>(handle);
    if (from == SEEK_CUR) offset += file.at;
    if (from == SEEK_END) offset += file.out.position();
    return file.at = offset;
  }
  static int close(thandle_t) { return 0; }
  static toff_t size(thandle_t handle) { return static_cast<File*>(handle)->out.position(); }
  static int keep_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
    auto& file = *static_cast<File*>(user);
    char words[300];
    std::vsnprintf(words, sizeof words, format, arguments);
    if (file.message.empty()) file.message = words;
    return 1;  // told here, not on the console
  }
};

void declare_geo_tags(TIFF* tiff) {
  // libtiff wants to be told of tags that it does not know before they are set.
  const auto field = [](detail::GeoTag tag, TIFFDataType type, const char* name) {
    const unsigned char counted = type != TIFF_ASCII;
    return TIFFFieldInfo{
        static_cast<ttag_t>(tag), TIFF_VARIABLE, TIFF_VARIABLE, type, FIELD_CUSTOM, 1, counted,
        const_cast<char*>(name)};
  };
  using detail::GeoTag;
  static const TIFFFieldInfo fields[] = {
      field(GeoTag::kPixelScale, TIFF_DOUBLE, "ModelPixelScale"),
      field(GeoTag::kTiepoints, TIFF_DOUBLE, "ModelTiepoint"),
      field(GeoTag::kTransformation, TIFF_DOUBLE, "ModelTransformation"),
      field(GeoTag::kKeys, TIFF_SHORT, "GeoKeyDirectory"),
      field(GeoTag::kDoubleParams, TIFF_DOUBLE, "GeoDoubleParams"),
      field(GeoTag::kAsciiParams, TIFF_ASCII, "GeoAsciiParams"),
      field(GeoTag::kNoData, TIFF_ASCII, "GDALNoData"),
  };
  TIFFMergeFieldInfo(tiff, fields, std::size(fields));
}

template <class T>
void set_geo_tag(TIFF* tiff, detail::GeoTag tag, const std::vector<T>& values) {
  if (values.empty()) return;
  TIFFSetField(tiff, static_cast<uint32_t>(tag), static_cast<int>(values.size()), values.data());
}

void set_geo_tags(TIFF* tiff, const RasterForm& form) {
  using detail::GeoTag;
  const GeoReference& geo = form.georeference;
  set_geo_tag(tiff, GeoTag::kPixelScale, geo.pixel_scale);
  set_geo_tag(tiff, GeoTag::kTiepoints, geo.tiepoints);
  set_geo_tag(tiff, GeoTag::kTransformation, geo.transformation);
  set_geo_tag(tiff, GeoTag::kKeys, geo.keys);
  set_geo_tag(tiff, GeoTag::kDoubleParams, geo.double_params);
  if (!geo.ascii_params.empty()) {
    TIFFSetField(tiff, static_cast<uint32_t>(GeoTag::kAsciiParams), geo.ascii_params.c_str());
  }
  if (!form.nodata) return;
  char written[40] = "nan";
  if (!std::isnan(*form.nodata)) std::snprintf(written, sizeof written, "%.17g", *form.nodata);
  TIFFSetField(tiff, static_cast<uint32_t>(GeoTag::kNoData), written);
}

/// 65535 of each colour, and black beyond the palette.
void set_palette(TIFF* tiff, const std::vector<std::array<int, 3>>& palette) {
  constexpr size_t kEntries = 256;
  std::array<std::vector<uint16_t>, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    tables[c].resize(kEntries);
    for (size_t i = 0; i < std::min(kEntries, palette.size()); ++i) {
      tables[c][i] = static_cast<uint16_t>(std::clamp(palette[i][c], 0, 255) * 257);
    }
  }
  TIFFSetField(tiff, TIFFTAG_COLORMAP, tables[0].data(), tables[1].data(), tables[2].data());
}

void set_raster_form(TIFF* tiff, const RasterForm& form) {
  const int depth = CV_MAT_DEPTH(form.type), bands = CV_MAT_CN(form.type);
  const bool colours = bands == 3 || bands == 4;
  const auto deflate = static_cast<uint16_t>(COMPRESSION_ADOBE_DEFLATE);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, static_cast<uint32_t>(form.width));
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, static_cast<uint32_t>(form.height));
  TIFFSetField(tiff, TIFFTAG_TILEWIDTH, static_cast<uint32_t>(form.block));
  TIFFSetField(tiff, TIFFTAG_TILELENGTH, static_cast<uint32_t>(form.block));
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * CV_ELEM_SIZE1(form.type)));
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, bands);
  TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT,
               depth == CV_32F ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT);
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION,
               TIFFIsCODECConfigured(deflate) ? deflate : COMPRESSION_LZW);
  const std::vector<uint16_t> extra(static_cast<size_t>(std::max(0, bands - (colours ? 3 : 1))),
                                    EXTRASAMPLE_UNSPECIFIED);
  if (!extra.empty()) {
    TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, static_cast<int>(extra.size()), extra.data());
  }
  if (form.type == CV_8UC1 && !form.palette.empty()) {
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_PALETTE);
    set_palette(tiff, form.palette);
  } else {
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, colours ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  }
  set_geo_tags(tiff, form);
}

}  // namespace

RasterWriter::RasterWriter(const std::string& path, const RasterForm& form)
    : form_(form), file_(std::make_unique<File>(path)) {
  const int depth = CV_MAT_DEPTH(form.type);
  SEG_CHECK(depth == CV_8U || depth == CV_16U || depth == CV_32F,
            "a raster is written of uint8, uint16 or float32");
  SEG_CHECK(form.block > 0 && form.block % 16 == 0,
            "the tiles of a TIFF file have sides of 16, 32,"
            " and so on, not ",
            form.block);
  using Calls = WriterCalls<File>;
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, Calls::keep_error, file_.get());
  // Deflated it is smaller, but by how much is not known before.
  const uint64_t bytes = static_cast<uint64_t>(form.width) * static_cast<uint64_t>(form.height) *
                         CV_ELEM_SIZE(form.type);
  constexpr uint64_t kClassicBytes = 3'900'000'000;  // offsets of 32 bits, less the directory
  file_->tiff = TIFFClientOpenExt(path.c_str(), bytes > kClassicBytes ? "w8m" : "wm", file_.get(),
                                  Calls::read, Calls::write, Calls::seek, Calls::close, Calls::size,
                                  nullptr, nullptr, options);
  TIFFOpenOptionsFree(options);
  if (!file_->tiff) file_->fail();
  declare_geo_tags(file_->tiff);
  set_raster_form(file_->tiff, form_);
  if (!file_->message.empty()) file_->fail();
}

RasterWriter::~RasterWriter() = default;

void RasterWriter::write(int column, int row, const cv::Mat& pixels) {
  const auto fits = [&](int begin, int length, int side) {
    return begin % form_.block == 0 && length > 0 && begin + length <= side &&
           (length % form_.block == 0 || begin + length == side);
  };
  SEG_CHECK(pixels.type() == form_.type && fits(column, pixels.cols, form_.width) &&
                fits(row, pixels.rows, form_.height),
            "pixels ", pixels.cols, "x", pixels.rows, " at ", column, ", ", row,
            " are no whole blocks of the raster");
  cv::Mat block(form_.block, form_.block, form_.type);
  for (int y = 0; y < pixels.rows; y += form_.block) {
    for (int x = 0; x < pixels.cols; x += form_.block) {
      const cv::Rect part(x, y, std::min(form_.block, pixels.cols - x),
                          std::min(form_.block, pixels.rows - y));
      if (part.size() != block.size()) std::memset(block.data, 0, block.total() * block.elemSize());
      pixels(part).copyTo(block(cv::Rect(0, 0, part.width, part.height)));
      const uint32_t tile = TIFFComputeTile(file_->tiff, static_cast<uint32_t>(column + x),
                                            static_cast<uint32_t>(row + y), 0, 0);
      const auto size = static_cast<tmsize_t>(block.total() * block.elemSize());
      if (TIFFWriteEncodedTile(file_->tiff, tile, block.data, size) != size) file_->fail();
    }
  }
}

void RasterWriter::commit() {
  const bool written = TIFFFlush(file_->tiff) == 1;
  TIFFClose(std::exchange(file_->tiff, nullptr));
  if (!written || file_->trouble) file_->fail();
  file_->out.commit();
}

void write_raster(const std::string& path, const cv::Mat& pixels, RasterForm form) {
  form.height = pixels.rows;
  form.width = pixels.cols;
  form.type = pixels.type();
  make_folders(std::filesystem::path(path).parent_path().string());
  RasterWriter writer(path, form);
  writer.write(0, 0, pixels);
  writer.commit();
}

}  // namespace seg
