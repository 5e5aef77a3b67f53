#include "segcore/image/tiff_file.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "registry/error.hpp"
#include "segcore/image/geo_tags.hpp"
#include "segcore/image/image_notes.hpp"
#include "segcore/io/file_reader.hpp"

namespace seg::detail {
namespace {

tmsize_t tiff_take(thandle_t handle, void* to, tmsize_t size) {
  auto* source = static_cast<TiffSource*>(handle);
  if (source->at >= source->size || size <= 0) return 0;
  auto count = std::min<uint64_t>(static_cast<uint64_t>(size), source->size - source->at);
  if (source->file) {
    try {
      count = source->file->read(source->at, to, count);
    } catch (const DataError& e) {  // no exception goes through libtiff
      source->message = e.what();
      return 0;
    }
  } else {
    std::memcpy(to, source->bytes.data() + source->at, count);
  }
  source->at += count;
  return static_cast<tmsize_t>(count);
}
tmsize_t tiff_refuse_to_write(thandle_t, void*, tmsize_t) { return 0; }
toff_t tiff_seek(thandle_t handle, toff_t offset, int from) {
  auto* source = static_cast<TiffSource*>(handle);
  if (from == SEEK_CUR) offset += source->at;
  if (from == SEEK_END) offset += source->size;
  source->at = offset;
  return source->at;
}
int tiff_close(thandle_t) { return 0; }
toff_t tiff_size(thandle_t handle) { return static_cast<TiffSource*>(handle)->size; }

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

/// The text that GDAL writes, "-9999" or "nan".
std::optional<double> tiff_no_data(const TiffHandle& handle) {
  constexpr auto kGdalNoData = static_cast<uint32_t>(GeoTag::kNoData);
  const TIFFField* field = TIFFFindField(handle.tiff, kGdalNoData, TIFF_ASCII);
  uint32_t size = 0;
  const char* value = nullptr;
  // libtiff makes a field of its own kind for tags that it does not know: a count and the bytes.
  if (!field || !TIFFFieldPassCount(field) || TIFFFieldReadCount(field) != TIFF_VARIABLE2 ||
      !TIFFGetField(handle.tiff, kGdalNoData, &size, &value) || !value) {
    return std::nullopt;
  }
  const std::string written(value, strnlen(value, size));
  char* end = nullptr;
  const double number = std::strtod(written.c_str(), &end);
  return end == written.c_str() ? std::nullopt : std::optional(number);
}

/// Directories that are pages: neither smaller copies of one nor masks.
std::vector<tdir_t> tiff_pages(const EncodedImage& image) {
  const TiffHandle handle(image);
  std::vector<tdir_t> out;
  if (!handle.tiff) return out;
  tdir_t directory = 0;
  do {
    const auto kind = handle.tag<uint32_t>(TIFFTAG_SUBFILETYPE, 0);
    if (!(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK))) out.push_back(directory);
    ++directory;
  } while (TIFFReadDirectory(handle.tiff));
  return out;
}

}  // namespace

TiffHandle::TiffHandle(const EncodedImage& image) {
  source.bytes = image.bytes;
  source.file = image.file;
  source.size = image.size();
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, tiff_keep_error, &source);
  TIFFOpenOptionsSetWarningHandlerExtR(options, tiff_no_warning, nullptr);
  // Tags, tables and codecs' buffers; the pixels' are checked by check_size.
  TIFFOpenOptionsSetMaxSingleMemAlloc(options,
                                      static_cast<tmsize_t>(kTiffFreeBlock + 64 * image.size()));
  // "m": no memory mapping, the file is in memory already or read as needed. "O": where strips and
  // tiles are is read of those only that are asked for.
  tiff = TIFFClientOpenExt(image.name.c_str(), image.file ? "rmO" : "rm", &source, tiff_take,
                           tiff_refuse_to_write, tiff_seek, tiff_close, tiff_size, nullptr, nullptr,
                           options);
  TIFFOpenOptionsFree(options);
}

TiffHandle::~TiffHandle() {
  if (tiff) TIFFClose(tiff);
}

void throw_tiff_error(const std::string& name, const TiffHandle& handle) {
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
  h.nodata = tiff_no_data(handle);
  return h;
}

void choose_tiff_page(const EncodedImage& image, const TiffHandle& handle,
                      std::optional<int64_t> page, bool labels) {
  if (!handle.tiff) throw_tiff_error(image.name, handle);
  if (!page) {
    if (TIFFLastDirectory(handle.tiff)) return;
    const size_t count = tiff_pages(image).size();
    if (count < 2) return;
    note_image(labels ? ImageNote::kLabelPages : ImageNote::kImagePages, image.name, [&] {
      return text("has ", count, " pages, of which the first is used. Set page: 0 to ", count - 1,
                  " at ", labels ? "LoadAnnotations" : "the step that loads the image",
                  " to choose one");
    });
    return;
  }
  const auto pages = tiff_pages(image);
  if (*page < 0 || static_cast<size_t>(*page) >= pages.size()) {
    throw_image_error(image.name, text("has ", pages.size(), pages.size() == 1 ? " page" : " pages",
                                       "; there is no page ", *page, " (they count from 0)"));
  }
  if (!TIFFSetDirectory(handle.tiff, pages[static_cast<size_t>(*page)])) {
    throw_tiff_error(image.name, handle);
  }
}

uint64_t count_missing_tiff_blocks(const TiffHandle& handle) {
  const uint32_t count =
      TIFFIsTiled(handle.tiff) ? TIFFNumberOfTiles(handle.tiff) : TIFFNumberOfStrips(handle.tiff);
  uint64_t missing = 0;
  for (uint32_t i = 0; i < count; ++i) missing += is_missing_tiff_block(handle, i);
  return missing;
}

bool is_missing_tiff_block(const TiffHandle& handle, uint32_t block) {
  return TIFFGetStrileByteCount(handle.tiff, block) == 0 &&
         TIFFGetStrileOffset(handle.tiff, block) == 0;
}

}  // namespace seg::detail
