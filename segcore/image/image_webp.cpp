/// WebP through libwebp: lossy and lossless pictures, not animations.
#include <webp/decode.h>

#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_codecs.hpp"

namespace seg::detail {
namespace {

/// Lossless files of one colour take next to nothing.
constexpr uint64_t kWebpRatio = 1 << 20;

WebPBitstreamFeatures read_webp_header(const EncodedImage& image) {
  WebPBitstreamFeatures features{};
  const VP8StatusCode status = WebPGetFeatures(image.bytes.data(), image.bytes.size(), &features);
  if (status == VP8_STATUS_NOT_ENOUGH_DATA) {
    throw_image_error(image.name, "damaged WebP file: the file ends before the picture does");
  }
  if (status != VP8_STATUS_OK) throw_image_error(image.name, "damaged WebP file");
  if (features.has_animation) {
    throw_image_error(image.name, "is an animated WebP file; single pictures can be read");
  }
  return features;
}

}  // namespace

Decoded decode_webp(const EncodedImage& image, PixelForm form) {
  const WebPBitstreamFeatures features = read_webp_header(image);
  const int width = features.width, height = features.height;
  const bool alpha = features.has_alpha && form == PixelForm::kStored;
  const int bands = alpha ? 4 : 3;
  check_size(image, static_cast<uint64_t>(width), static_cast<uint64_t>(height),
             static_cast<uint64_t>(bands), kWebpRatio);
  Decoded out;
  out.pixels.create(height, width, CV_8UC(bands));
  const size_t size = out.pixels.total() * out.pixels.elemSize();
  const auto stride = static_cast<int>(out.pixels.step);
  const uint8_t* done = alpha ? WebPDecodeBGRAInto(image.bytes.data(), image.bytes.size(),
                                                   out.pixels.data, size, stride)
                              : WebPDecodeBGRInto(image.bytes.data(), image.bytes.size(),
                                                  out.pixels.data, size, stride);
  if (!done) throw_image_error(image.name, "damaged WebP file: it cannot be decoded");
  return out;
}

ImageInfo webp_info(const EncodedImage& image) {
  const WebPBitstreamFeatures features = read_webp_header(image);
  return {.height = features.height,
          .width = features.width,
          .bands = features.has_alpha ? 4 : 3,
          .format = "WebP",
          .lossy = features.format != 2};
}

}  // namespace seg::detail
