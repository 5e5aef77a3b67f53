/// Netpbm's bitmaps, grey maps and colour maps (P1 to P6), as text and binary, of 1 to 16 bits.
#include <cctype>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/eight_bits.hpp"
#include "segcore/image/image_codecs.hpp"

namespace seg::detail {
namespace {

/// Reads what stands before the pixels, and the pixels of text files: numbers with blanks and
/// comments between them.
class PnmText {
 public:
  explicit PnmText(const EncodedImage& image) : image_(image) {}

  uint32_t number() {
    skip_blanks();
    if (at_ >= image_.bytes.size()) end();
    if (!std::isdigit(image_.bytes[at_]))
      throw_image_error(image_.name, "damaged Netpbm file: a number was expected");
    uint32_t value = 0;
    for (; at_ < image_.bytes.size() && std::isdigit(image_.bytes[at_]); ++at_) {
      value = value * 10 + (image_.bytes[at_] - '0');
      if (value > (1u << 24))
        throw_image_error(image_.name, "damaged Netpbm file: a number is too large");
    }
    return value;
  }
  /// One digit: bits of text files need no blanks between them.
  uint32_t bit() {
    skip_blanks();
    if (at_ >= image_.bytes.size()) end();
    const uint8_t digit = image_.bytes[at_++];
    if (digit != '0' && digit != '1')
      throw_image_error(image_.name, "damaged Netpbm file: a bit was expected");
    return digit - '0';
  }
  /// The binary pixels, which follow a single blank.
  std::span<const uint8_t> rest() const {
    return image_.bytes.subspan(std::min(at_ + 1, image_.bytes.size()));
  }
  [[noreturn]] void end() const {
    throw_image_error(image_.name, "damaged Netpbm file: it ends before the picture does");
  }

 private:
  void skip_blanks() {
    for (; at_ < image_.bytes.size(); ++at_) {
      if (image_.bytes[at_] == '#') {
        while (at_ < image_.bytes.size() && image_.bytes[at_] != '\n') ++at_;
        if (at_ == image_.bytes.size()) return;
      } else if (!std::isspace(image_.bytes[at_])) {
        return;
      }
    }
  }

  const EncodedImage& image_;
  size_t at_ = 2;
};

struct PnmHeader {
  int kind = 0;  ///< 1 to 6, as in "P5"
  uint32_t width = 0, height = 0, top = 1;
  bool binary() const { return kind >= 4; }
  bool bits() const { return kind == 1 || kind == 4; }
  int bands() const { return kind == 3 || kind == 6 ? 3 : 1; }
};

PnmHeader read_pnm_header(const EncodedImage& image, PnmText& from) {
  PnmHeader h;
  h.kind = image.bytes[1] - '0';
  h.width = from.number();
  h.height = from.number();
  if (!h.bits()) h.top = from.number();
  if (h.top < 1 || h.top > 65535) {
    throw_image_error(
        image.name, text("damaged Netpbm file: its largest value is ", h.top, ", not 1 to 65535"));
  }
  return h;
}

/// The samples as the file has them; 1 is white in bitmaps, as in other formats.
cv::Mat read_pnm_samples(const PnmHeader& h, PnmText& from) {
  const bool wide = h.top > 255;
  cv::Mat pixels(static_cast<int>(h.height), static_cast<int>(h.width),
                 CV_MAKETYPE(wide ? CV_16U : CV_8U, h.bands()));
  const size_t samples = static_cast<size_t>(h.width) * static_cast<size_t>(h.bands());
  const size_t stride = h.bits() ? (samples + 7) / 8 : samples * (wide ? 2 : 1);
  const auto bytes = h.binary() ? from.rest() : std::span<const uint8_t>();
  if (h.binary() && bytes.size() < stride * h.height) from.end();
  const auto put = [&](int y, size_t x, uint32_t value) {
    value = std::min(value, wide ? h.top : h.binary() ? 255u : h.top);
    if (h.bits()) value = 1 - value;
    if (wide) {
      pixels.ptr<uint16_t>(y)[x] = static_cast<uint16_t>(value);
    } else {
      pixels.ptr<uint8_t>(y)[x] = static_cast<uint8_t>(value);
    }
  };
  for (int y = 0; y < pixels.rows; ++y) {
    const uint8_t* row = bytes.data() + (h.binary() ? static_cast<size_t>(y) * stride : 0);
    for (size_t x = 0; x < samples; ++x) {
      if (!h.binary()) {
        put(y, x, h.bits() ? from.bit() : from.number());
      } else if (h.bits()) {
        put(y, x, row[x / 8] >> (7 - x % 8) & 1u);
      } else {
        put(y, x, wide ? static_cast<uint32_t>(row[2 * x] << 8 | row[2 * x + 1]) : row[x]);
      }
    }
  }
  return pixels;
}

}  // namespace

Decoded decode_pnm(const EncodedImage& image, PixelForm form) {
  PnmText from(image);
  const PnmHeader h = read_pnm_header(image, from);
  // A sample takes a bit, a digit, or a byte and more.
  check_size(image, h.width, h.height, static_cast<uint64_t>(h.bands()), h.bits() ? 8 : 2);
  Decoded out;
  out.pixels = read_pnm_samples(h, from);
  if (form == PixelForm::kLabels) return out;
  // As OpenCV: what text files have is spread over 8 bits, and of 16 bits the upper 8 are taken.
  if (h.bits()) {
    out.pixels *= 255;
  } else if (!h.binary() && h.top < 255) {
    cv::Mat table(1, 256, CV_8UC1, cv::Scalar(255));
    for (uint32_t i = 0; i < h.top; ++i)
      table.at<uint8_t>(static_cast<int>(i)) = static_cast<uint8_t>(i * 255 / h.top);
    cv::LUT(out.pixels, table, out.pixels);
  }
  if (form != PixelForm::kStored) {
    out.pixels = to_eight_bits(image, out.pixels, Narrowing::kUpperBits);
  }
  if (h.bands() == 3)
    cv::mixChannels(out.pixels.clone(), out.pixels, std::vector<int>{0, 2, 1, 1, 2, 0});
  return out;
}

ImageInfo pnm_info(const EncodedImage& image) {
  PnmText from(image);
  const PnmHeader h = read_pnm_header(image, from);
  return {.height = h.height, .width = h.width, .bands = h.bands(), .format = "Netpbm"};
}

}  // namespace seg::detail
