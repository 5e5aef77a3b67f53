#include "segcore/image/tiff_file.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "registry/error.hpp"

namespace seg::detail {
namespace {

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

}  // namespace

TiffHandle::TiffHandle(const EncodedImage& image) {
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
  return h;
}

}  // namespace seg::detail
