/// Pictures that are not as the book has them, but as people have them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/image_notes.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

std::vector<uint8_t> odd_file(const std::string& name) {
  return read_file_bytes(source_path("tests/data/images/" + name));
}

std::string odd_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

class OddFiles : public ::testing::Test {
 protected:
  void SetUp() override { detail::forget_image_notes(); }
};

/// What the log prints while `f` runs.
std::string logged(const std::function<void()>& f) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  f();
  return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
}

bool equal_pixels(const cv::Mat& a, const cv::Mat& b) {
  return a.type() == b.type() && a.size() == b.size() &&
         cv::norm(a.reshape(1), b.reshape(1), cv::NORM_INF) == 0;
}

TEST_F(OddFiles, JpegWithoutItsEndMarkerLosesNoPixel) {
  for (const char* name : {"exif_1.jpg", "progressive.jpg", "gray.jpg"}) {
    auto bytes = odd_file(name);
    const cv::Mat whole = decode_image(bytes, "a.jpg");
    bytes.resize(bytes.size() - 2);
    const std::string shown = std::string("no_end_of_") + name;
    cv::Mat read;
    const std::string log = logged([&] { read = decode_image(bytes, shown); });
    EXPECT_TRUE(equal_pixels(read, whole)) << name;
    if (std::string(name) == "exif_1.jpg") {
      EXPECT_THAT(log, HasSubstr("no_end_of_exif_1.jpg: the end of the JPEG file is missing, but "
                                 "none of its pixels; it is used as it is"));
      // Once for a file, however often it is read.
      EXPECT_EQ(logged([&] { decode_image(bytes, shown); }), "");
    }
    // Half a marker, and no half of one.
    bytes.push_back(0xFF);
    EXPECT_TRUE(equal_pixels(decode_image(bytes, shown), whole)) << name;
    bytes.resize(bytes.size() - 12);
    EXPECT_EQ(odd_error([&] { decode_image(bytes, "cut.jpg"); }),
              "cut.jpg: damaged JPEG file: the file ends before the picture does")
        << name;
  }
}

/// Progressive files show the whole picture from their first part on, coarsely.
TEST_F(OddFiles, JpegThatEndsBetweenTwoScansIsCut) {
  const auto bytes = odd_file("progressive.jpg");
  size_t tried = 0;
  for (size_t at = 2; at + 1 < bytes.size(); ++at) {
    if (bytes[at] != 0xFF || bytes[at + 1] != 0xDA) continue;
    // Tables may stand before a scan: the end of the entropy-coded part is somewhere before.
    const std::vector<uint8_t> part(bytes.begin(), bytes.begin() + static_cast<long>(at));
    EXPECT_NE(odd_error([&] { decode_image(part, "part.jpg"); }), "no error") << at;
    ++tried;
  }
  EXPECT_GE(tried, 3u);
}

TEST_F(OddFiles, TiffOfSeveralPages) {
  const auto bytes = odd_file("pages.tif");  // a page, its overview, another page, its mask
  cv::Mat first;
  const std::string log =
      logged([&] { first = decode_image(bytes, "many.tif", ImageFlag::kUnchanged); });
  EXPECT_THAT(log, HasSubstr("many.tif: has 2 pages, of which the first is used. Set page: 0 to 1 "
                             "at the step that loads the image to choose one"));
  EXPECT_THAT(logged([&] { decode_labels(bytes, "many.tif"); }), HasSubstr("at LoadAnnotations"));
  const cv::Mat second = decode_labels(bytes, "many.tif", {.page = 1});
  ASSERT_EQ(second.size(), first.size());
  for (int y = 0; y < first.rows; ++y) {
    for (int x = 0; x < first.cols; ++x) {
      EXPECT_EQ(second.at<uint8_t>(y, x), first.at<uint8_t>(y, x) / 2);
    }
  }
  EXPECT_EQ(odd_error([&] { decode_labels(bytes, "many.tif", {.page = 2}); }),
            "many.tif: has 2 pages; there is no page 2 (they count from 0)");
  EXPECT_EQ(odd_error([&] { decode_labels(odd_file("gray.png"), "one.png", {.page = 1}); }),
            "one.png: has one page; there is no page 1");
  // Chosen, or alone but for its overview: nothing to tell.
  EXPECT_EQ(logged([&] {
              decode_image(bytes, "chosen.tif", ImageFlag::kUnchanged, {.page = 0});
              decode_image(odd_file("overview.tif"), "overview.tif", ImageFlag::kUnchanged);
            }),
            "");
}

/// 12 bits of a sensor in 16: the upper 8 bits are all but black.
TEST_F(OddFiles, TwelveBitsInSixteenAreReported) {
  cv::Mat dark(3, 4, CV_16UC1, cv::Scalar(0));
  dark.at<uint16_t>(1, 2) = 4095;
  const auto png = encode_png(dark);
  const std::string pgm = "P5\n2 1\n65535\n" + std::string("\x0f\xff\x01\x00", 4);
  const std::string expected =
      ": its largest 16-bit value is 4095 of 65535, so the 8 bits of color_type 'color' and "
      "'grayscale' are nearly black: load it with color_type: unchanged";
  cv::Mat read;
  EXPECT_THAT(logged([&] { read = decode_image(png, "dark.png"); }),
              HasSubstr("dark.png" + expected));
  EXPECT_EQ(read.at<cv::Vec3b>(1, 2), cv::Vec3b(15, 15, 15));
  detail::forget_image_notes();
  EXPECT_THAT(logged([&] { decode_image(encode_tiff(dark), "dark.tif", ImageFlag::kGrayscale); }),
              HasSubstr("dark.tif" + expected));
  detail::forget_image_notes();
  EXPECT_THAT(
      logged([&] { decode_image(std::vector<uint8_t>(pgm.begin(), pgm.end()), "dark.pgm"); }),
      HasSubstr("dark.pgm" + expected));
  detail::forget_image_notes();
  // All black, brighter, or used as stored: nothing to report.
  EXPECT_EQ(logged([&] {
              decode_image(encode_png(cv::Mat(3, 4, CV_16UC1, cv::Scalar(0))), "black.png");
              decode_image(encode_png(cv::Mat(3, 4, CV_16UC3, cv::Scalar::all(4096))), "a.png");
              decode_image(png, "stored.png", ImageFlag::kUnchanged);
            }),
            "");
}

TEST_F(OddFiles, FloatsThatAreNoNumbersNameTheFile) {
  const auto bytes = odd_file("nan.tif");
  EXPECT_EQ(odd_error([&] { decode_image(bytes, "nan.tif", ImageFlag::kUnchanged); }),
            "nan.tif: holds NaN at row 3, column 4 (1 of 60 values are not finite). If they mark "
            "pixels without data, set nodata: .nan at the step that loads the image, which fills "
            "them");
  const cv::Mat filled =
      decode_image_in_file_order(bytes, "nan.tif", {.nodata = -9999, .nodata_fill = 0.5});
  EXPECT_EQ(filled.at<cv::Vec3f>(3, 4)[0], 0.5f);
  EXPECT_EQ(filled.at<cv::Vec3f>(1, 2)[1], 0.5f);
  EXPECT_GT(filled.at<cv::Vec3f>(3, 4)[1], 0.f);
  const cv::Mat only_nan = decode_image_in_file_order(bytes, "nan.tif", {.nodata = std::nan("")});
  EXPECT_EQ(only_nan.at<cv::Vec3f>(3, 4)[0], 0.f);
  EXPECT_EQ(only_nan.at<cv::Vec3f>(1, 2)[1], -9999.f);
}

TEST_F(OddFiles, ValueThatTheFileDeclaresAsNoData) {
  const auto bytes = odd_file("no_data.tif");
  EXPECT_THAT(logged([&] { decode_image(bytes, "holes.tif", ImageFlag::kUnchanged); }),
              HasSubstr("holes.tif: 1 of 60 values are -9999, which the file declares as no data, "
                        "and are used as they stand. Set nodata: -9999 at the step that loads the "
                        "image, which fills them"));
  EXPECT_EQ(
      logged([&] { decode_image(bytes, "filled.tif", ImageFlag::kUnchanged, {.nodata = -9999}); }),
      "");
}

TEST_F(OddFiles, LabelsWithoutData) {
  cv::Mat floats(2, 3, CV_32FC1, cv::Scalar(2));
  floats.at<float>(0, 1) = -9999;
  floats.at<float>(1, 2) = std::nanf("");
  const auto bytes = encode_tiff(floats);
  cv::Mat missing;
  const cv::Mat ids = decode_labels(bytes, "a.tif", {.nodata = -9999}, &missing);
  EXPECT_EQ(cv::countNonZero(missing), 2);
  EXPECT_EQ(missing.at<uint8_t>(0, 1), 255);
  EXPECT_EQ(missing.at<uint8_t>(1, 2), 255);
  EXPECT_EQ(ids.at<int32_t>(0, 0), 2);
  EXPECT_EQ(
      odd_error([&] { decode_labels(bytes, "a.tif"); }),
      "a.tif: holds the value nan at row 1, column 2, which is no class id. If it marks pixels "
      "without data, set nodata: .nan at LoadAnnotations, which has them ignored");
}

TEST_F(OddFiles, DamagedNetpbmAndWebp) {
  const auto text_of = [](const std::string& text) {
    return std::vector<uint8_t>(text.begin(), text.end());
  };
  EXPECT_EQ(odd_error([&] { decode_image(text_of("P5\n5 4\n255\nabc"), "a.pgm"); }),
            "a.pgm: damaged Netpbm file: it ends before the picture does");
  EXPECT_EQ(odd_error([&] { decode_image(text_of("P2 2 1 255 1 x"), "a.pgm"); }),
            "a.pgm: damaged Netpbm file: a number was expected");
  EXPECT_EQ(odd_error([&] { decode_image(text_of("P6\n2 2\n70000\n"), "a.ppm"); }),
            "a.ppm: damaged Netpbm file: its largest value is 70000, not 1 to 65535");
  auto webp = odd_file("lossy.webp");
  webp.resize(webp.size() / 2);
  EXPECT_THAT(odd_error([&] { decode_image(webp, "a.webp"); }), HasSubstr("a.webp: damaged WebP"));
  EXPECT_TRUE(has_picture_suffix("x/a.WebP"));
  EXPECT_TRUE(has_picture_suffix("a.pgm"));
  EXPECT_FALSE(has_picture_suffix("a.txt"));
}

TEST_F(OddFiles, LongNamesAreCutAndToldApart) {
  const std::string a(250, 'a'), b = a + "b", c = a + "c";
  EXPECT_EQ(fitting_path("out/" + a, ".png"), "out/" + a + ".png");
  const std::string cut = fitting_path("out/" + b, "_ids.png");
  EXPECT_EQ(cut.size(), 4u + 255u);
  EXPECT_TRUE(cut.ends_with("_ids.png"));
  EXPECT_NE(cut, fitting_path("out/" + c, "_ids.png"));
}

}  // namespace
}  // namespace seg
