/// Files that are decoded as far as a window takes, against libpng, which wrote them.
#include <gtest/gtest.h>
#include <png.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/inflated_stream.hpp"
#include "segcore/image/png_plain.hpp"

namespace seg {
namespace {

using PngBytes = std::vector<uint8_t>;

/// \param filters  those that libpng may choose from.
/// \param chunk    most bytes of a chunk of pixels.
PngBytes png_of(const cv::Mat& pixels, int filters, size_t chunk = 8192) {
  PngBytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp of, png_bytep bytes, size_t size) {
        auto* to = static_cast<PngBytes*>(png_get_io_ptr(of));
        to->insert(to->end(), bytes, bytes + size);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, static_cast<png_uint_32>(pixels.cols),
               static_cast<png_uint_32>(pixels.rows), 8,
               pixels.channels() == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_filter(png, PNG_FILTER_TYPE_BASE, filters);
  png_set_compression_buffer_size(png, chunk);
  png_write_info(png, info);
  for (int y = 0; y < pixels.rows; ++y) png_write_row(png, pixels.ptr(y));
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

cv::Mat plain(const PngBytes& bytes, const cv::Mat& like, const cv::Rect& window) {
  cv::Mat out = detail::decode_plain_png(bytes, {like.cols, like.rows, like.channels()}, window);
  if (out.channels() == 3) cv::cvtColor(out, out, cv::COLOR_BGR2RGB);
  return out;
}

cv::Mat plain(const PngBytes& bytes, const cv::Mat& like) {
  return plain(bytes, like, {0, 0, like.cols, like.rows});
}

/// Noise, or areas of one value as labels have them.
cv::Mat png_picture(int columns, int bands, bool areas) {
  cv::Mat out(11, columns, CV_8UC(bands));
  cv::randu(out.reshape(1), 0, 256);
  if (!areas) return out;
  for (int y = 0; y < out.rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      const int value = (y / 4) * 3 + (x + y / 2) / 17;
      for (int b = 0; b < bands; ++b) out.ptr(y)[x * bands + b] = static_cast<uint8_t>(value + b);
    }
  }
  return out;
}

TEST(PlainPngTest, EveryFilterIsUndone) {
  for (const int filters : {PNG_FILTER_NONE, PNG_FILTER_SUB, PNG_FILTER_UP, PNG_FILTER_AVG,
                            PNG_FILTER_PAETH, PNG_ALL_FILTERS}) {
    for (const int bands : {1, 3}) {
      for (const bool areas : {false, true}) {
        for (int columns = 1; columns < 40; ++columns) {
          const cv::Mat picture = png_picture(columns, bands, areas);
          const cv::Mat found = plain(png_of(picture, filters), picture);
          ASSERT_EQ(found.size(), picture.size());
          EXPECT_EQ(cv::norm(found.reshape(1), picture.reshape(1), cv::NORM_INF), 0)
              << columns << " columns of " << bands << " bands, filters " << filters;
        }
      }
    }
  }
}

TEST(PlainPngTest, AWindowIsThatOfTheWhole) {
  for (const int bands : {1, 3}) {
    const cv::Mat picture = png_picture(37, bands, false);
    const PngBytes bytes = png_of(picture, PNG_ALL_FILTERS, 100);
    for (int x = 0; x < picture.cols; x += 5) {
      for (int y = 0; y < picture.rows; ++y) {
        const cv::Rect window(x, y, (picture.cols - x + 1) / 2, (picture.rows - y + 2) / 3);
        const cv::Mat found = plain(bytes, picture, window);
        ASSERT_EQ(found.size(), window.size());
        EXPECT_EQ(cv::norm(found, picture(window), cv::NORM_INF), 0) << window;
      }
    }
  }
}

TEST(PlainPngTest, WhatIsBehindAWindowIsNotDecompressed) {
  cv::Mat picture(400, 300, CV_8UC3);
  cv::randu(picture, 0, 256);
  const PngBytes bytes = png_of(picture, PNG_ALL_FILTERS);
  const cv::Rect top(10, 0, 40, 20), bottom(10, 380, 40, 20);
  // The header claims more rows than there are.
  const cv::Mat claimed(500, 300, CV_8UC3);
  EXPECT_EQ(cv::norm(plain(bytes, claimed, top), picture(top), cv::NORM_INF), 0);
  EXPECT_EQ(cv::norm(plain(bytes, claimed, bottom), picture(bottom), cv::NORM_INF), 0);
  EXPECT_TRUE(plain(bytes, claimed, {10, 390, 40, 20}).empty());
  EXPECT_TRUE(plain(bytes, claimed).empty());
}

TEST(PlainPngTest, PixelsInManyChunksAreJoined) {
  const cv::Mat picture = png_picture(200, 3, false);
  const cv::Rect top(3, 0, 90, 5);
  for (const size_t chunk : {7, 1}) {  // the second cuts the stream's header, too
    const PngBytes bytes = png_of(picture, PNG_ALL_FILTERS, chunk);
    EXPECT_EQ(cv::norm(plain(bytes, picture).reshape(1), picture.reshape(1), cv::NORM_INF), 0);
    EXPECT_EQ(cv::norm(plain(bytes, picture, top), picture(top), cv::NORM_INF), 0);
  }
}

TEST(PlainPngTest, AWindowIsNotReadFromWhatIsNoStream) {
  const cv::Mat picture = png_picture(30, 1, true);
  PngBytes bytes = png_of(picture, PNG_FILTER_NONE);
  const cv::Rect top(0, 0, 30, 3);
  ASSERT_FALSE(plain(bytes, picture, top).empty());
  const std::string start("IDAT");
  const auto begin = std::search(bytes.begin(), bytes.end(), start.begin(), start.end());
  const auto at = static_cast<size_t>(begin - bytes.begin());
  const size_t size = static_cast<size_t>(bytes[at - 2]) * 256 + bytes[at - 1] + start.size();
  bytes[at + start.size()] ^= 0x01;  // another method of compression
  const uint32_t sum = detail::crc32({bytes.data() + at, size});
  for (size_t i = 0; i < 4; ++i) bytes[at + size + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
  EXPECT_TRUE(plain(bytes, picture, top).empty());
}

TEST(PlainPngTest, WhatIsUnusualIsLeftToLibpng) {
  const cv::Mat picture = png_picture(30, 1, true);
  const PngBytes good = png_of(picture, PNG_FILTER_NONE);
  ASSERT_FALSE(plain(good, picture).empty());
  const std::string start("IDAT");
  const auto pixels = std::search(good.begin(), good.end(), start.begin(), start.end());
  const auto in_pixels = static_cast<size_t>(pixels - good.begin()) + 10;
  for (const size_t place : {in_pixels, good.size() - 15, good.size() - 8}) {
    PngBytes damaged = good;
    damaged[place] ^= 0x40;
    EXPECT_TRUE(plain(damaged, picture).empty()) << "byte " << place;
    EXPECT_THROW(decode_labels(damaged, "a.png"), DataError);
  }
  for (size_t size = 8; size < good.size(); ++size) {
    EXPECT_TRUE(
        plain(PngBytes(good.begin(), good.begin() + static_cast<int64_t>(size)), picture).empty());
  }
  EXPECT_TRUE(plain(good, png_picture(31, 1, true)).empty()) << "of another size";
}

}  // namespace
}  // namespace seg
