#include "segcore/image/eight_bits.hpp"

#include <algorithm>

#include "registry/text.hpp"
#include "segcore/image/image_notes.hpp"

namespace seg::detail {

cv::Mat to_eight_bits(const EncodedImage& image, const cv::Mat& pixels, Narrowing how) {
  if (pixels.depth() != CV_16U) return pixels;
  cv::Mat out(pixels.rows, pixels.cols, CV_8UC(pixels.channels()));
  const size_t samples = static_cast<size_t>(out.cols) * static_cast<size_t>(out.channels());
  int largest = 0;
  for (int y = 0; y < out.rows; ++y) {
    const auto* in = pixels.ptr<uint16_t>(y);
    auto* to = out.ptr<uint8_t>(y);
    for (size_t i = 0; i < samples; ++i) {
      to[i] = static_cast<uint8_t>(how == Narrowing::kRounded ? (in[i] + 128) / 257 : in[i] >> 8);
      largest = std::max<int>(largest, in[i]);
    }
  }
  constexpr int kTwelveBits = 1 << 12;
  if (largest > 0 && largest < kTwelveBits) {
    note_image(ImageNote::kFewBitsUsed, image.name, [&] {
      return text("its largest 16-bit value is ", largest,
                  " of 65535, so the 8 bits of color_type "
                  "'color' and 'grayscale' are nearly black: load it with color_type: unchanged");
    });
  }
  return out;
}

}  // namespace seg::detail
