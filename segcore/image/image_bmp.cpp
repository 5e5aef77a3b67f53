/// Windows bitmaps without compression: 1, 4, 8, 24 and 32 bits.
#include <algorithm>
#include <array>
#include <cstring>
#include <opencv2/core.hpp>
#include <vector>

#include "registry/error.hpp"
#include "segcore/image/image_codecs.hpp"

namespace seg::detail {
namespace {

struct BmpHeader {
  uint32_t pixels_at = 0, header_size = 0, compression = 0, colors = 0;
  int64_t width = 0, height = 0;
  int bits = 0;
  bool bottom_up = true;
};

uint32_t bmp_number(std::span<const uint8_t> bytes, size_t at, int size) {
  uint32_t value = 0;
  for (int i = 0; i < size; ++i) {
    value |= static_cast<uint32_t>(bytes[at + static_cast<size_t>(i)]) << (8 * i);
  }
  return value;
}

BmpHeader read_bmp_header(const EncodedImage& image) {
  const auto& bytes = image.bytes;
  if (bytes.size() < 54) throw_image_error(image.name, "damaged BMP file: it ends in its header");
  BmpHeader h;
  h.pixels_at = bmp_number(bytes, 10, 4);
  h.header_size = bmp_number(bytes, 14, 4);
  if (h.header_size < 40 || h.header_size > bytes.size() - 14) {
    throw_image_error(image.name, "this kind of BMP file (OS/2) cannot be read; convert it to PNG");
  }
  const auto height = static_cast<int32_t>(bmp_number(bytes, 22, 4));
  h.width = static_cast<int32_t>(bmp_number(bytes, 18, 4));
  h.bottom_up = height > 0;
  h.height = h.bottom_up ? height : -static_cast<int64_t>(height);
  h.bits = static_cast<int>(bmp_number(bytes, 28, 2));
  h.compression = bmp_number(bytes, 30, 4);
  h.colors = bmp_number(bytes, 46, 4);
  const bool known_bits = h.bits == 1 || h.bits == 4 || h.bits == 8 || h.bits == 24 || h.bits == 32;
  // 3: bit masks, which files of 32 bits have in the usual order.
  if (!known_bits || !(h.compression == 0 || (h.compression == 3 && h.bits == 32))) {
    throw_image_error(image.name, text("BMP files of ", h.bits, " bits with compression ",
                                       h.compression, " cannot be read; convert it to PNG"));
  }
  return h;
}

}  // namespace

Decoded decode_bmp(const EncodedImage& image, PixelForm form) {
  const BmpHeader h = read_bmp_header(image);
  const auto& bytes = image.bytes;
  check_size(image, static_cast<uint64_t>(std::max<int64_t>(h.width, 0)),
             static_cast<uint64_t>(h.height), 1, 8);
  const auto width = static_cast<size_t>(h.width), height = static_cast<size_t>(h.height);
  const size_t stride = (width * static_cast<size_t>(h.bits) + 31) / 32 * 4;
  if (h.pixels_at > bytes.size() || bytes.size() - h.pixels_at < stride * height) {
    throw_image_error(image.name, "damaged BMP file: it ends before the picture does");
  }
  std::array<std::array<uint8_t, 3>, 256> palette{};
  bool gray = false;
  if (h.bits <= 8) {
    const size_t count = std::min<size_t>(h.colors ? h.colors : 1u << h.bits, 256);
    const size_t at = 14 + h.header_size;
    if (at + 4 * count > bytes.size()) {
      throw_image_error(image.name, "damaged BMP file: it ends in its palette");
    }
    gray = h.bits == 8;
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(palette[i].data(), &bytes[at + 4 * i], 3);
      gray = gray && palette[i][0] == i && palette[i][1] == i && palette[i][2] == i;
    }
  }
  const bool indices = h.bits <= 8 && (form == PixelForm::kLabels || gray);
  Decoded out;
  out.pixels.create(static_cast<int>(height), static_cast<int>(width), indices ? CV_8UC1 : CV_8UC3);
  for (size_t y = 0; y < height; ++y) {
    const uint8_t* row = bytes.data() + h.pixels_at + (h.bottom_up ? height - 1 - y : y) * stride;
    uint8_t* to = out.pixels.ptr(static_cast<int>(y));
    for (size_t x = 0; x < width; ++x) {
      if (h.bits >= 24) {
        std::memcpy(to + 3 * x, row + x * static_cast<size_t>(h.bits / 8), 3);
        continue;
      }
      const size_t bit = x * static_cast<size_t>(h.bits);
      const int shift = 8 - h.bits - static_cast<int>(bit % 8);
      const auto index = static_cast<uint8_t>(row[bit / 8] >> shift & ((1 << h.bits) - 1));
      if (indices) {
        to[x] = index;
      } else {
        std::memcpy(to + 3 * x, palette[index].data(), 3);
      }
    }
  }
  return out;
}

ImageInfo bmp_info(const EncodedImage& image) {
  const BmpHeader h = read_bmp_header(image);
  return {.height = h.height, .width = h.width, .bands = 3, .format = "BMP"};
}

}  // namespace seg::detail
